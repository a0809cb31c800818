package powercut

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/host"
)

// writeTwice makes a root directory whose file /etc/a has an old text, replaces
// it, and returns the recorder and the states after a power cut.
func writeTwice(t *testing.T, drop func(host.FileOp) bool) []State {
	t.Helper()
	root := t.TempDir()
	if err := host.New(root).WriteFile("/etc/a", []byte("old text"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := Start(t, root)
	h := host.New(root, r.Option())
	if err := h.WriteFile("/etc/a", []byte("new text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile("/etc/firstboot/complete", []byte("a is new"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.Filter(drop)
	return r.States()
}

// wrong describes what is wrong in a state: a file is neither old nor new, or the
// second file is there without the first.
func wrong(files map[string]file) string {
	a, complete := string(files["/etc/a"].data), files["/etc/firstboot/complete"]
	switch {
	case a != "old text" && a != "new text":
		return "a is damaged"
	case complete.mode != 0 && string(complete.data) != "a is new":
		return "complete is damaged"
	case complete.mode != 0 && a != "new text":
		return "complete is not true"
	}
	return ""
}

func TestAtomicDurableWritesSurviveEveryPowerCut(t *testing.T) {
	states := writeTwice(t, func(host.FileOp) bool { return false })
	if len(states) < 8 {
		t.Fatalf("%d states", len(states))
	}
	for _, s := range states {
		if problem := wrong(s.files); problem != "" {
			t.Errorf("%s: %s: %s", s.Name, problem, s.describe())
		}
	}
}

// TestMissingSyncIsFound: without the syncs of files, or of directories, a power
// cut damages something. A test that cannot find this is worthless.
func TestMissingSyncIsFound(t *testing.T) {
	for kind, want := range map[host.FileOpKind]string{host.OpSyncFile: "a is damaged", host.OpSyncDir: "complete is not true"} {
		found := map[string]bool{}
		for _, s := range writeTwice(t, func(op host.FileOp) bool { return op.Kind == kind }) {
			found[wrong(s.files)] = true
		}
		if !found[want] {
			t.Errorf("without %s: found %v, want %q", kind, found, want)
		}
	}
}

func TestRestoredStateIsTheRecordedOne(t *testing.T) {
	root := t.TempDir()
	r := Start(t, root, "/run")
	h := host.New(root, r.Option())
	for _, err := range []error{
		h.WriteFile("/etc/a", []byte("a"), 0o640), h.Symlink("a", "/etc/b"), h.WriteFile("/run/lock", nil, 0o600),
		h.MkdirAll("/var/lib/x"), h.Rename("/etc/a", "/etc/c"), h.WriteFile("/etc/gone/x", nil, 0o600), h.RemoveAll("/etc/gone"),
		h.Overwrite("/etc/c", []byte("longer")), h.Overwrite("/etc/c", []byte("c")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	states := r.States()
	dir := t.TempDir()
	states[len(states)-1].restore(t, dir)
	if data, err := os.ReadFile(filepath.Join(dir, "etc/c")); err != nil || string(data) != "c" {
		t.Errorf("%q, %v", data, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "etc/b")); err != nil || target != "a" {
		t.Errorf("%q, %v", target, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "run/lock")); err == nil {
		t.Error("/run survived the power cut")
	}
	for _, path := range []string{"etc/gone", "etc/a"} {
		if _, err := os.Lstat(filepath.Join(dir, path)); err == nil {
			t.Errorf("%s exists", path)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "var/lib")); err != nil || len(entries) != 1 || strings.HasPrefix(entries[0].Name(), ".") {
		t.Errorf("%v, %v", entries, err)
	}
}

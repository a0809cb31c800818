package state_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

func writeFile(t *testing.T, h *host.Host, path, data string) {
	t.Helper()
	if err := h.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

var self = state.Machine{MachineID: "aaaa"}

// start starts a run on the machine self.
func start(t interface {
	Helper()
	Fatal(...any)
}, h *host.Host, event state.Event) *state.Run {
	t.Helper()
	run, err := state.OpenRecords(h, self).Start(state.Start{Event: event, Version: "v1", BootID: "boot1", Now: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// pass makes a whole run that passes.
func pass(t *testing.T, h *host.Host, event state.Event, version string) {
	t.Helper()
	run := start(t, h, event)
	j := run.Journal()
	st, err := run.End(state.RunPassed)
	if err != nil || st != state.Complete {
		t.Fatal(st, err)
	}
	j.State, j.Version = st, version
	if err := errors.Join(run.Save(&j), run.Commit(j)); err != nil {
		t.Fatal(err)
	}
}

func TestJournalIsReadAsWritten(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		h := host.New(root)
		run := start(t, h, state.StartRun)
		want := run.Journal()
		want.Attempt = rapid.IntRange(0, 1000).Draw(t, "attempt")
		want.Error = rapid.StringMatching(`[ -~äö]{0,300}`).Draw(t, "error")
		want.Started = time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "started"), 0).UTC()
		want.Stage("node").Warnings = []string{rapid.StringMatching(`\S[ -~]{0,300}\S`).Draw(t, "warning")}
		if err := run.Save(&want); err != nil {
			t.Fatal(err)
		}
		got, found, err := state.LoadJournal(h)
		if err != nil || !found {
			t.Fatalf("found %v, %v", found, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

func TestNewerSchemaIsAnError(t *testing.T) {
	h := host.New(t.TempDir())
	writeFile(t, h, state.JournalPath, `{"schema": 99, "stages": "not even a list any more"}`)
	_, _, err := state.LoadJournal(h)
	var newer *state.NewerError
	if !errors.As(err, &newer) || newer.Schema != 99 {
		t.Errorf("got %v", err)
	}
}

func TestErrorAboutADamagedFileNamesIt(t *testing.T) {
	for _, data := range []string{"", "{", "[]", `{"schema": 0}`, `{"schema": 1, "version": 1}`, "\x00\x00\x00", `{"schema": 1, "machine": {}}`} {
		h := host.New(t.TempDir())
		writeFile(t, h, state.MarkerPath, data)
		_, _, err := state.LoadMarker(h)
		var damaged *state.DamagedError
		if !errors.As(err, &damaged) || !strings.Contains(err.Error(), state.MarkerPath) {
			t.Errorf("%q: got %v", data, err)
		}
	}
}

func TestMarkerKeepsThePreviousOne(t *testing.T) {
	h := host.New(t.TempDir())
	pass(t, h, state.StartRun, "v1")
	pass(t, h, state.StartForced, "v2")
	pass(t, h, state.StartForced, "v3")
	c, _, err := state.LoadMarker(h)
	if err != nil || c.Version != "v3" || c.Previous == nil || c.Previous.Version != "v2" || c.Previous.Previous != nil {
		t.Errorf("got %+v, %v", c, err)
	}
	info, err := os.Stat(h.RealPath(state.MarkerPath))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestMachinesAreComparedByTheirKnownIDs(t *testing.T) {
	a := state.Machine{MachineID: "aaaa", ProductUUID: "1111"}
	for _, c := range []struct {
		name  string
		other state.Machine
		same  bool
	}{
		{"itself", a, true},
		{"a clone with the machine-id of its image", state.Machine{MachineID: "aaaa", ProductUUID: "2222"}, false},
		{"a sealed image on the same hardware", state.Machine{MachineID: "bbbb", ProductUUID: "1111"}, false},
		{"no DMI", state.Machine{MachineID: "aaaa"}, true},
		{"another machine without DMI", state.Machine{MachineID: "bbbb"}, false},
		{"no machine", state.Machine{}, false},
		{"no ID in common", state.Machine{ProductUUID: "2222"}, false},
	} {
		if got := a.Same(c.other); got != c.same {
			t.Errorf("%s: same is %v", c.name, got)
		}
	}
}

// testManifest passes what a host writes to a manifest.
type testManifest struct {
	t *testing.T
	*state.Manifest
}

func (m testManifest) Record(path, digest string) { m.check(m.Manifest.Record(path, digest)) }

func (m testManifest) Expect(files map[string]string) { m.check(m.Manifest.Expect(files)) }

func (m testManifest) check(err error) {
	if err != nil {
		m.t.Error(err)
	}
}

// TestExpectedFilesAreListedInOneWrite before they exist, and one that is listed
// already keeps its digest until it is replaced.
func TestExpectedFilesAreListedInOneWrite(t *testing.T) {
	root, writes := t.TempDir(), 0
	plain := host.New(root, host.WithFileOps(func(op host.FileOp) {
		if op.Kind == host.OpRename {
			writes++
		}
	}))
	m, err := state.OpenManifest(plain)
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.WithManifest(testManifest{t, m}))
	writeFile(t, h, "/etc/old", "old")
	old := m.Files["/etc/old"]
	writes = 0
	files := []host.File{{Path: "/etc/old", Data: []byte("new")}, {Path: "/etc/a", Data: []byte("a")}, {Path: "/etc/b", Data: []byte("b")}}
	h.Expect(files, map[string]string{"/usr/bin/c": "cc"})
	reread, err := state.OpenManifest(plain)
	if err != nil || writes != 1 || len(reread.Files) != 4 || reread.Files["/etc/old"] != old || reread.Files["/usr/bin/c"] != "cc" {
		t.Errorf("%d writes, %v, %v", writes, reread.Files, err)
	}
	for _, f := range files {
		writeFile(t, h, f.Path, string(f.Data))
	}
	h.Expect(files, nil)
	if writes != 2 || m.Files["/etc/old"] == old {
		t.Errorf("%d writes after the files were written, want one more for the replaced file: %v", writes, m.Files)
	}
}

func TestManifestRecordsWritesAndRemovals(t *testing.T) {
	root := t.TempDir()
	plain := host.New(root) // records nothing
	m, err := state.OpenManifest(plain)
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.WithManifest(testManifest{t, m}))
	writeFile(t, h, "/etc/a", "a")
	writeFile(t, h, "/etc/b", "b")
	if err := h.Remove("/etc/a"); err != nil {
		t.Fatal(err)
	}
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	reread, err := state.OpenManifest(plain)
	if err != nil || !cmp.Equal(reread.Paths(), []string{"/etc/b"}) {
		t.Errorf("recorded %v, %v", reread.Paths(), err)
	}
	digest, err := h.SHA256("/etc/b")
	if err != nil || reread.Files["/etc/b"] != digest {
		t.Errorf("digest %q of %q, %v", reread.Files["/etc/b"], digest, err)
	}
}

// TestProgressCompletesTheJournalOfTheSameRun, until a reboot: the progress of
// another boot or run, and one that is older or damaged, is ignored.
func TestProgressCompletesTheJournalOfTheSameRun(t *testing.T) {
	h := host.New(t.TempDir())
	writeFile(t, h, "/proc/sys/kernel/random/boot_id", "boot1\n")
	records := state.OpenRecords(h, state.Machine{MachineID: "aaaa"})
	run, err := records.Start(state.Start{Event: state.StartRun, BootID: "boot1", Now: time.Unix(1000, 5)})
	if err != nil {
		t.Fatal(err)
	}
	j := run.Journal()
	wantMode := func(when, want string) {
		t.Helper()
		if got, found, err := state.LoadJournal(h); err != nil || !found || got.Notes.Network.Mode != want {
			t.Errorf("%s: the mode is %q, want %q (%v, %v)", when, got.Notes.Network.Mode, want, found, err)
		}
	}
	write := func(mode string, write func(*state.Journal) error) {
		j.Notes.Network.Mode = mode
		if err := write(&j); err != nil {
			t.Fatal(err)
		}
	}
	write("1", run.Save)
	write("2", run.SaveProgress)
	wantMode("progress", "2")
	write("3", run.Save)
	wantMode("saved after the progress", "3")
	write("4", run.SaveProgress)
	writeFile(t, h, "/proc/sys/kernel/random/boot_id", "boot2\n")
	wantMode("after a reboot that kept /run", "3")
	writeFile(t, h, "/proc/sys/kernel/random/boot_id", "boot1\n")
	next, err := records.Start(state.Start{Event: state.StartRun, BootID: "boot1", Now: time.Unix(2000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	j = next.Journal()
	if j.Notes.Network.Mode != "4" {
		t.Errorf("the next run starts with the mode %q", j.Notes.Network.Mode)
	}
	write("5", next.Save)
	wantMode("of the next run", "5")
	write("6", next.SaveProgress)
	writeFile(t, h, state.ProgressPath, "{")
	wantMode("damaged progress", "5")
}

package state_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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

func TestJournalIsReadAsWritten(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		h := host.New(root)
		want := state.Journal{
			State:   rapid.SampledFrom([]state.State{state.Running, state.Failed}).Draw(t, "state"),
			Attempt: rapid.IntRange(0, 1000).Draw(t, "attempt"),
			Error:   rapid.String().Filter(isText).Draw(t, "error"),
			Started: time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "started"), 0).UTC(),
		}
		want.Stage("node").Warnings = []string{rapid.String().Filter(isText).Draw(t, "warning")}
		if err := want.Save(h); err != nil {
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

func isText(s string) bool { return strings.ToValidUTF8(s, "") == s }

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
	for _, data := range []string{"", "{", "[]", `{"schema": 0}`, `{"schema": 1, "attempt": "x"}`, "\x00\x00\x00"} {
		h := host.New(t.TempDir())
		writeFile(t, h, state.MarkerPath, data)
		_, _, err := state.LoadMarker(h)
		var damaged *state.DamagedError
		if data == `{"schema": 1, "attempt": "x"}` {
			if err != nil {
				t.Errorf("%q: an unknown field is an error: %v", data, err)
			}
			continue
		}
		if !errors.As(err, &damaged) || !strings.Contains(err.Error(), state.MarkerPath) {
			t.Errorf("%q: got %v", data, err)
		}
	}
}

func TestMarkerKeepsThePreviousOne(t *testing.T) {
	h := host.New(t.TempDir())
	for _, version := range []string{"v1", "v2", "v3"} {
		c := state.Marker{Version: version}
		if err := c.Save(h); err != nil {
			t.Fatal(err)
		}
	}
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
	} {
		if got := a.Same(c.other); got != c.same {
			t.Errorf("%s: same is %v", c.name, got)
		}
	}
}

func TestSetAsideKeepsTheFiles(t *testing.T) {
	h := host.New(t.TempDir())
	const unit = "/etc/systemd/system/calico-node.service"
	const link = "/etc/systemd/system/docker.service.wants/calico-node.service"
	writeFile(t, h, "/var/lib/calico/nodename", "host1")
	writeFile(t, h, unit, "[Service]")
	if err := h.Symlink(unit, link); err != nil {
		t.Fatal(err)
	}
	writeFile(t, h, state.JournalPath, "journal")
	writeFile(t, h, state.MarkerPath, "marker")
	dir, err := state.SetAside(h, state.Machine{MachineID: "aaaa"}, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if h.Exists(link) {
		t.Error("calico-node is still enabled")
	}
	for _, path := range []string{"/var/lib/calico/nodename", unit, state.JournalPath, state.MarkerPath} {
		if h.Exists(path) {
			t.Errorf("%s still exists", path)
		}
		if !h.Exists(filepath.Join(dir, filepath.Base(path))) {
			t.Errorf("%s was lost", path)
		}
	}
}

// TestMain makes this binary a process that holds the lock.
func TestMain(m *testing.M) {
	if root := os.Getenv("STATE_TEST_HOLD_LOCK"); root != "" {
		if _, err := state.AcquireLock(host.New(root)); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		return
	}
	os.Exit(m.Run())
}

func TestLockHolderIsNamedAndItsDeathReleasesTheLock(t *testing.T) {
	root := t.TempDir()
	h := host.New(root)
	if _, held := state.LockHolder(h); held {
		t.Error("the lock is held before it was taken")
	}
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "STATE_TEST_HOLD_LOCK="+root)
	stdin, _ := holder.StdinPipe()
	stdout, _ := holder.StdoutPipe()
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, err := state.AcquireLock(h)
	var held *state.LockHeldError
	if !errors.As(err, &held) || held.PID != holder.Process.Pid {
		t.Errorf("got %v, want the pid %d", err, holder.Process.Pid)
	}
	if pid, held := state.LockHolder(h); !held || pid != holder.Process.Pid {
		t.Errorf("holder %d, %v", pid, held)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	_ = stdin.Close()
	lock, err := state.AcquireLock(h)
	if err != nil {
		t.Fatalf("the lock is still held after its holder died: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

func TestManifestRecordsWritesAndRemovals(t *testing.T) {
	root := t.TempDir()
	plain := host.New(root) // records nothing
	m, err := state.OpenManifest(plain)
	if err != nil {
		t.Fatal(err)
	}
	h := host.New(root, host.WithManifest(func(path, digest string) {
		if err := m.Record(path, digest); err != nil {
			t.Error(err)
		}
	}))
	writeFile(t, h, "/etc/a", "a")
	writeFile(t, h, "/etc/b", "b")
	if err := h.Remove("/etc/a"); err != nil {
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

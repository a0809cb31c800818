package state_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// damages make a state file unusable. Each replaces path.
func damages(t *testing.T, h *host.Host) map[string]func(path string) {
	write := func(text string) func(string) { return func(path string) { writeFile(t, h, path, text) } }
	return map[string]func(path string){
		"half":             write(`{"schema": 1,`),
		"empty":            write(""),
		"another type":     write("[]"),
		"no machine":       write(`{"schema": 1, "state": "failed"}`),
		"larger than 4 MB": write(`{"schema": 1, "error": "` + strings.Repeat("x", 5<<20) + `"}`),
		"a FIFO": func(path string) {
			if err := errors.Join(h.MkdirAll(state.Dir), unix.Mkfifo(h.RealPath(path), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"a directory": func(path string) { writeFile(t, h, path+"/in/the/way", "") },
		"a link to itself": func(path string) {
			if err := errors.Join(h.MkdirAll(state.Dir), os.Symlink(filepath.Base(path), filepath.Join(h.Root(), path))); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func TestDamagedFileIsSetAsideAndTheHostIsNotComplete(t *testing.T) {
	for name := range damages(t, host.New(t.TempDir())) {
		for _, path := range []string{state.MarkerPath, state.JournalPath, state.RetiredPath} {
			h := host.New(t.TempDir())
			pass(t, h, state.StartRun, "v1")
			if path == state.JournalPath {
				end(t, start(t, h, state.StartForced), state.RunFailed)
			}
			for range 2 { // also over an earlier damaged file
				if err := h.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				damages(t, h)[name](path)
				records, lines := state.OpenRecords(h, self), ""
				if _, complete := records.Complete(); complete && path == state.MarkerPath {
					t.Errorf("%s is %s: complete", path, name)
				}
				err := records.Recover(time.Now(), func(format string, args ...any) { lines += fmt.Sprintf(format, args...) })
				if err != nil || !strings.Contains(lines, path+" is damaged") || !h.Exists(state.DamagedPath(path)) || h.Exists(path) {
					t.Errorf("%s is %s: %q, %v", path, name, lines, err)
				}
			}
			event := state.StartRun
			if path == state.RetiredPath {
				event = state.StartForced
			}
			pass(t, h, event, "v2")
			is(t, h, state.Complete)
		}
	}
}

func TestDamagedRecordOfLeavingStillPreventsAJoinAtBoot(t *testing.T) {
	for name, damage := range damages(t, host.New(t.TempDir())) {
		_ = damage
		h := host.New(t.TempDir())
		records := state.OpenRecords(h, self)
		pass(t, h, state.StartRun, "v1")
		damages(t, h)[name](state.LeftPath)
		is(t, h, state.Left)
		if _, complete := records.Complete(); complete {
			t.Errorf("%s: complete", name)
		}
		if _, err := records.Start(state.Start{Event: state.StartAtBoot}); err == nil {
			t.Errorf("%s: a boot starts a run", name)
		}
		pass(t, h, state.StartRun, "v2")
		is(t, h, state.Complete)
	}
}

func TestDamagedManifestAndConfigurationAreReported(t *testing.T) {
	for name := range damages(t, host.New(t.TempDir())) {
		h := host.New(t.TempDir())
		var damaged *state.DamagedError
		if name != "no machine" {
			damages(t, h)[name](state.ManifestPath)
			if _, err := state.OpenManifest(h); !errors.As(err, &damaged) || damaged.Path != state.ManifestPath {
				t.Errorf("%s: %v", name, err)
			}
		}
		if strings.HasPrefix(name, "a ") || strings.HasPrefix(name, "larger") {
			damages(t, h)[name](state.EffectivePath)
			if _, _, err := state.ReadEffective(h); !errors.As(err, &damaged) || damaged.Path != state.EffectivePath {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A file that only root can read is not damaged.
func TestUnreadableFileIsAnErrorForOthers(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can read every file")
	}
	h := host.New(t.TempDir())
	pass(t, h, state.StartRun, "v1")
	if err := os.Chmod(h.RealPath(state.MarkerPath), 0); err != nil {
		t.Fatal(err)
	}
	var damaged *state.DamagedError
	if _, _, err := state.LoadMarker(h); err == nil || errors.As(err, &damaged) {
		t.Error(err)
	}
}

// Whatever enters the journal, firstboot can read it back.
func TestExternalTextInTheJournalIsBounded(t *testing.T) {
	for _, stages := range []int{3, 40} {
		testBounds(t, stages)
	}
}

func testBounds(t *testing.T, stages int) {
	t.Helper()
	for name, text := range map[string]string{
		"long":                strings.Repeat("404 ", 1<<18),
		"markup":              strings.Repeat("<&>", 1<<16),
		"control characters":  strings.Repeat("\x1b[31m\x00\u202e", 1<<16),
		"lines":               strings.Repeat("one\n\n", 1<<16),
		"bytes of no charset": strings.Repeat("\xff\xfe", 1<<16),
		"quotes":              strings.Repeat(`"\`, 1<<16),
	} {
		h := host.New(t.TempDir())
		run := start(t, h, state.StartRun)
		j := run.Journal()
		j.Error, j.Notes.Probe.NetworkID = text, text
		for i := range stages {
			s := j.Stage(fmt.Sprint("stage", i))
			s.Error, s.Hint, s.WaitsFor = text, text, text
			for range 30 {
				s.Warnings = append(s.Warnings, text)
			}
			for range 200 {
				s.Differences = append(s.Differences, state.Difference{Object: text, Actual: text})
			}
		}
		if err := run.Save(&j); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		read, found, err := state.LoadJournal(h)
		if err != nil || !found {
			t.Fatalf("%s: found %v, %v", name, found, err)
		}
		if stages == 3 && len(read.Stages[0].Differences) != 100 {
			t.Errorf("%s: %d differences", name, len(read.Stages[0].Differences))
		}
		if s := read.Stages[0]; s.Error == "" || len(s.Error) > 2100 || len(s.Warnings) > 20 || strings.ContainsAny(s.Error+read.Error, "\x1b\x00\n\u202e") {
			t.Errorf("%s: %d bytes, %d warnings: %.40q", name, len(s.Error), len(s.Warnings), s.Error)
		}
	}
}

func TestIdentityFromAFileIsSafeInAPath(t *testing.T) {
	h := host.New(t.TempDir())
	writeFile(t, h, "/etc/machine-id", "../../etc/"+strings.Repeat("a", 1<<20))
	if m := state.ThisMachine(h); len(m.MachineID) > 64 || strings.ContainsAny(m.MachineID, "./") {
		t.Errorf("%d bytes: %.80s", len(m.MachineID), m.MachineID)
	}
	writeFile(t, h, state.MarkerPath, `{"schema": 1, "machine": {"machine_id": "../../../etc/cron.d/x\u0000"}}`)
	if err := state.OpenRecords(h, self).Recover(time.Unix(0, 0), func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	names, err := h.ReadDir(state.ForeignDir)
	if err != nil || len(names) != 1 || names[0] != "19700101T000000Z-etccrondx" {
		t.Errorf("%q, %v", names, err)
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
	writeFile(t, h, state.ManifestPath+"/a/directory", "")
	writeFile(t, h, state.LeftPath, `{"schema": 1, "machine": {"machine_id": "bbbb"}}`)
	writeFile(t, h, state.MarkerPath, `{"schema": 1, "machine": {"machine_id": "bbbb"}}`)
	if err := state.OpenRecords(h, self).Recover(time.Unix(0, 0), func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	is(t, h, state.NotStarted)
	if h.Exists(link) {
		t.Error("calico-node is still enabled")
	}
	for _, path := range []string{"/var/lib/calico/nodename", unit, state.JournalPath, state.ManifestPath, state.LeftPath, state.MarkerPath} {
		if h.Exists(path) {
			t.Errorf("%s still exists", path)
		}
		if !h.Exists(filepath.Join(state.ForeignDir, "19700101T000000Z-bbbb", filepath.Base(path))) {
			t.Errorf("%s was lost", path)
		}
	}
}

package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/state"
)

// Every state file, damaged in every way, is set aside by the next run; until
// then status answers and the host is not reported as complete without a reason.
func TestDamagedStateFilesAreSetAsideByTheNextRun(t *testing.T) {
	damages := map[string]func(path string) error{
		"half":      func(path string) error { return os.WriteFile(path, []byte(`{"schema": 1, "x`), 0o600) },
		"too large": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("#\n", 5<<20)), 0o600) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) },
	}
	for name, damage := range damages {
		for _, path := range []string{state.MarkerPath, state.JournalPath, state.ManifestPath, state.EffectivePath} {
			m := newMachine(t)
			m.runs(app.ExitDone)
			real := m.h.RealPath(path)
			for _, file := range []string{real, m.h.RealPath(state.MarkerPath)} { // incomplete, so that a run reads the file
				if err := os.RemoveAll(file); err != nil {
					t.Fatal(err)
				}
			}
			if err := damage(real); err != nil {
				t.Fatal(err)
			}
			s, err := app.Status(t.Context(), m.options())
			if err != nil || s.State == state.Complete || s.State == state.Unknown {
				t.Errorf("%s is %s: %+v, %v", path, name, s, err)
			}
			if _, err := app.Plan(t.Context(), m.options(), false); err != nil {
				t.Errorf("%s is %s: plan: %v", path, name, err)
			}
			m.runs(app.ExitDone, path+" is damaged", "renamed to "+path+".damaged")
			m.is(state.Complete)
			if !m.h.Exists(path + ".damaged") {
				t.Errorf("%s is %s: it was not kept", path, name)
			}
		}
	}
}

func TestDamagedConfigurationOfACompleteHostIsUnknownAndForceRepairsIt(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile(state.EffectivePath, "config: [")
	m.is(state.Unknown, state.EffectivePath+" is damaged", "firstboot run --force reads the configuration files again")
	m.runs(app.ExitDone, "not re-checked")
	m.force = true
	m.runs(app.ExitDone)
	m.is(state.Complete)
}

// The format of a newer firstboot is not a damage.
func TestConfigurationOfANewerFirstbootIsNotSetAside(t *testing.T) {
	m := newMachine(t)
	m.only = []string{"first"}
	m.runs(app.ExitDone)
	m.only = nil
	newer := strings.Replace(m.readFile(state.EffectivePath), "effective: ", "effective: 9", 1)
	m.writeFile(state.EffectivePath, newer)
	m.runs(app.ExitConfig, "unknown format version")
	if m.readFile(state.EffectivePath) != newer {
		t.Error("the file was changed")
	}
}

func TestMarkerThatNamesNoMachineIsValidNowhere(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile(state.MarkerPath, `{"schema": 1, "version": "v1.0.0", "machine": {"machine_id": ""}}`)
	m.writeFile("/etc/first", "of another machine")
	m.is(state.Failed, "it does not name a machine")
	m.boots(app.ExitDone, "it does not name a machine")
	if got := m.readFile("/etc/first"); got != "10.213.0.0/16" {
		t.Errorf("the marker was valid: %q", got)
	}
}

func TestRunWithoutAMachineIdentityChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.writeFile("/etc/machine-id", "")
	m.runs(app.ExitFailed, "this machine has no identity", "systemd-machine-id-setup")
	if m.h.Exists("/etc/first") {
		t.Error("stages were run")
	}
}

// TestDamagedRecordOfLeavingIsShown: status, and the command that renames the
// record, name it. Until then the host counts as left.
func TestDamagedRecordOfLeavingIsShown(t *testing.T) {
	const damaged, renamed = state.LeftPath + " is damaged", "renamed to " + state.LeftPath + ".damaged"
	left := func() *machine {
		m := newMember(t)
		m.leaves(app.ExitDone)
		m.writeFile(state.LeftPath, "{")
		m.is(state.Left, damaged, "this host counts as left")
		m.boots(app.ExitLeft)
		return m
	}
	m := left()
	m.runs(app.ExitDone, damaged, renamed)
	m.is(state.Complete)

	m = left()
	m.leaves(app.ExitDone, damaged, renamed)
	m.is(state.Left)
	if s, err := app.Status(t.Context(), m.options()); err != nil || strings.Contains(strings.Join(s.Notes, " "), "damaged") {
		t.Errorf("after leave: %q, %v", s.Notes, err)
	}

	// A directory cannot be replaced by a file.
	m = left()
	if err := errors.Join(m.h.Remove(state.LeftPath), m.h.MkdirAll(state.LeftPath+"/x")); err != nil {
		t.Fatal(err)
	}
	m.leaves(app.ExitDone, damaged, renamed)
	m.is(state.Left)
}

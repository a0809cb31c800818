package app_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestStatusChecksTheMachine(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.stages[2].check = func() error { return &engine.Wait{For: "etcd", Err: errors.New("refused")} }
	m.is(state.Unknown, "waiting for etcd: refused")
	m.writeFile("/etc/first", "changed by hand")
	m.is(state.Drifted, "/etc/first: other text", "waiting for etcd: refused")
	m.writeFile("/etc/first", "10.213.0.0/16")
	m.stages[2].check = nil
	m.is(state.Complete)
}

func TestStatusChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	before := m.tree()
	m.writeFile("/etc/first", "changed by hand")
	before["/etc/first"] = "changed by hand"
	m.is(state.Drifted)
	if d := cmp.Diff(before, m.tree()); d != "" {
		t.Error(d)
	}
}

func TestStatusNotesAnotherVersion(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	o := m.options()
	o.Version = "v2.0.0"
	s, err := app.Status(t.Context(), o)
	if err != nil || s.State != state.Complete || s.Version != "v1.0.0" || !strings.Contains(fmt.Sprint(s.Notes), "this is firstboot v2.0.0, but v1.0.0 completed this host; firstboot plan --force shows what this version would change, firstboot run --force applies it") {
		t.Errorf("%+v, %v", s, err)
	}
	// The other version may be the reason for a drift.
	m.writeFile("/etc/first", "text of another version")
	s, err = app.Status(t.Context(), o)
	if err != nil || s.State != state.Drifted || !strings.Contains(fmt.Sprint(s.Notes), "v1.0.0 completed this host") {
		t.Errorf("%+v, %v", s, err)
	}
	m.writeFile("/etc/first", "10.213.0.0/16")
	if err := app.Run(t.Context(), app.RunOptions{Options: o, Out: &m.out, Err: &m.errs}); err != nil || !strings.Contains(m.out.String(), "by firstboot v1.0.0") {
		t.Errorf("%v: %s", err, &m.out)
	}
}

func TestRunWithoutLockAndOutcomeIsFailed(t *testing.T) {
	for _, st := range []state.State{state.Running, state.Complete} {
		m := newMachine(t)
		j := state.Journal{Schema: state.Schema, State: st, Machine: state.Machine{MachineID: "aaaa"}}
		j.Stage("first").State = state.StageOK
		j.Stage("second").State = state.StageRunning
		m.writeJSON(state.JournalPath, j)
		m.is(state.Failed, "the last run did not finish", "Name:second State:pending")
	}
}

func TestMissingSavedConfigurationMakesTheStateUnknown(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	if err := m.h.Remove(state.EffectivePath); err != nil {
		t.Fatal(err)
	}
	m.is(state.Unknown, state.EffectivePath+" is missing")
}

// On a host that has left the network the next boot starts no run.
func TestStatusNamesAServiceThatIsNotEnabled(t *testing.T) {
	m := newMachine(t)
	advises := func(next string) {
		t.Helper()
		s, err := app.Status(t.Context(), m.options())
		if err != nil || s.State != state.NotStarted || s.Next != next {
			t.Errorf("%+v, %v; want %q next", s, err, next)
		}
	}
	advises("firstboot.service is not enabled")
	m.writeFile("/etc/systemd/system/multi-user.target.wants/firstboot.service", "")
	advises("firstboot.service starts the run at boot")
}

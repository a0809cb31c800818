package app_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// newMember returns a complete machine whose service is enabled.
func newMember(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.writeFile(serviceLink, "")
	m.runs(app.ExitDone)
	return m
}

func TestHostThatLeftStaysOutUntilAPersonRunsAllStages(t *testing.T) {
	m := newMember(t)
	m.leaves(app.ExitDone, "this host has left the network", "to join again: systemctl enable --now")
	m.is(state.Left, "firstboot.service is not enabled", "systemctl enable --now")
	m.boots(app.ExitLeft, "this host has left the network; a boot does not join it again")
	m.is(state.Left)
	m.only = []string{"first"}
	m.runs(app.ExitDone)
	m.is(state.Left, "only these stages were run: first")
	m.only = []string{"third"} // needs all stages
	m.runs(app.ExitDone)
	m.is(state.Left)
	m.stages[1].apply = func(context.Context) error { return errors.New("no") }
	m.writeFile("/etc/second", "drifted")
	m.runs(app.ExitFailed, "this host stays out of the network")
	m.is(state.Left)
	if m.h.Exists(report.RunIssue) {
		t.Error("the login screen shows a failure of selected stages")
	}
	m.only = nil
	m.boots(app.ExitLeft)
	m.runs(app.ExitFailed, "next: the next boot continues from here")
	m.is(state.Failed)
	m.stages[1].apply = nil
	m.runs(app.ExitDone)
	m.is(state.Complete)
	m.boots(app.ExitDone, "not re-checked")
}

// systemctl enable --now is how a person makes the service run.
func TestEnabledServiceJoinsAHostThatLeft(t *testing.T) {
	m := newMember(t)
	m.leaves(app.ExitDone)
	m.writeFile(serviceLink, "")
	m.is(state.Left, "the next boot joins again")
	m.boots(app.ExitDone)
	m.is(state.Complete)
}

func TestLeaveKeepsTheNotesOfTheJournal(t *testing.T) {
	m := newMachine(t)
	reloaded := time.Unix(1000, 0).UTC()
	m.stages[1].apply = func(context.Context) error {
		return m.notes.SetNotes(func(n *state.Notes) { n.StoreReloaded, n.Probe.NetworkID = reloaded, "abc" })
	}
	m.runs(app.ExitDone)
	m.leaves(app.ExitDone)
	if n := m.notes.Notes(); n.StoreReloaded != reloaded {
		t.Errorf("leave did not get the notes: %+v", n)
	}
	j, _, err := state.LoadJournal(m.h)
	if err != nil || j.State != state.Left || j.Notes.StoreReloaded != reloaded || j.Notes.Probe.NetworkID != "" || j.ConfigDigest == "" {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestRefusedLeaveChangesNothing(t *testing.T) {
	m := newMember(t)
	m.writeFile(container, "")
	before := m.tree("/run/firstboot/")
	m.leaves(app.ExitRefused, "nothing was changed", "container-on-network")
	if d := cmp.Diff(before, m.tree("/run/firstboot/")); d != "" {
		t.Error(d)
	}
	m.is(state.Complete)
}

func TestLeaveThatFailsBeforeAChangeIsCanceled(t *testing.T) {
	m := newMember(t)
	marker := m.readFile(state.MarkerPath)
	m.leaving["check"] = func(context.Context) error { return errors.New("no answer from systemd") }
	m.leaves(app.ExitFailed, "no answer from systemd", "next: nothing was changed")
	m.is(state.Complete)
	if m.readFile(state.MarkerPath) != marker {
		t.Error("the marker was changed")
	}
	delete(m.leaving, "check")
	m.leaving["autostart"] = func(context.Context) error { return errors.New("half disabled") }
	m.leaves(app.ExitFailed, "this host has only partly left the network")
	m.is(state.Failed, "firstboot leave did not finish")
	m.leaving["check"] = func(context.Context) error { return errors.New("no answer from systemd") }
	m.leaves(app.ExitFailed, "this host has only partly left the network")
	m.is(state.Failed, "firstboot leave did not finish")
}

func TestInterruptedLeaveIsContinuedByLeaveOnly(t *testing.T) {
	m := newMember(t)
	m.leaving["node"] = func(context.Context) error { return errors.New("etcd does not answer") }
	m.leaves(app.ExitFailed, "etcd does not answer", "this host has only partly left the network", "firstboot leave")
	m.is(state.Failed, "firstboot leave did not finish", "firstboot leave", "firstboot run")
	m.boots(app.ExitLeft, "firstboot leave was interrupted", "firstboot leave")
	m.writeFile(serviceLink, "") // may be from before the leave
	m.boots(app.ExitLeft)
	delete(m.leaving, "node")
	m.leaves(app.ExitDone)
	m.is(state.Left)
	m.leaves(app.ExitDone) // again
	m.is(state.Left)
}

func TestLeaveRemovesAnEarlierFailureFromTheLoginScreen(t *testing.T) {
	m := newMachine(t)
	m.stages[1].apply = func(context.Context) error { return errors.New("no") }
	m.runs(app.ExitFailed)
	if !m.h.Exists(report.RunIssue) {
		t.Fatal("the failure is not shown")
	}
	m.leaves(app.ExitDone)
	for _, path := range []string{report.RunIssue, report.RunMotd} {
		if m.h.Exists(path) {
			t.Errorf("%s still exists", path)
		}
	}
	m.is(state.Left)
}

func TestLeaveSetsDamagedAndForeignFilesAside(t *testing.T) {
	for path, text := range map[string]string{
		state.MarkerPath: "{half", state.JournalPath: "[]", state.EffectivePath: "{[", state.ManifestPath: "x",
	} {
		m := newMember(t)
		m.writeFile(path, text)
		m.leaves(app.ExitDone, "this host has left the network")
		m.is(state.Left)
		m.runs(app.ExitDone)
		m.is(state.Complete)
	}
	m := newMember(t)
	m.writeFile("/etc/machine-id", "bbbb\n")
	m.leaves(app.ExitDone, "the completion marker belongs to another machine (aaaa, this is bbbb)")
	m.is(state.Left)
}

func TestStatusDuringLeave(t *testing.T) {
	m := newMember(t)
	m.leaving["node"] = func(context.Context) error {
		m.is(state.Running, "this host is leaving the network")
		return nil
	}
	m.leaves(app.ExitDone)
}

func TestFailedForcedRunThenSelectedStagesIsNotComplete(t *testing.T) {
	m := newMember(t)
	m.force, m.stages[1].apply = true, func(context.Context) error { return errors.New("no") }
	m.writeFile("/etc/second", "drifted")
	m.runs(app.ExitFailed)
	m.force, m.only = false, []string{"first"}
	m.runs(app.ExitDone)
	m.is(state.NotStarted, "only these stages were run: first")
	m.only, m.stages[1].apply = nil, nil
	m.boots(app.ExitDone)
	if got := m.readFile("/etc/second"); got != "10.213.0.0/16" {
		t.Errorf("the boot did not run the stages: %q", got)
	}
	m.is(state.Complete)
}

func TestSelectedStagesOnACompleteHostAreRun(t *testing.T) {
	m := newMember(t)
	marker := m.readFile(state.MarkerPath)
	m.writeFile("/etc/first", "drifted")
	m.only = []string{"first"}
	m.runs(app.ExitDone, "first (1/1) done", "(changed)")
	if m.readFile(state.MarkerPath) != marker || m.readFile("/etc/first") != "10.213.0.0/16" {
		t.Error("the stage was not run, or the marker was changed")
	}
	m.only = []string{"third"} // needs all stages
	m.writeFile("/etc/third", "drifted")
	m.runs(app.ExitDone, "third  (3/3) done")
	m.is(state.Complete)

	m.stages[0].check = func() error { return errors.New("no answer") }
	m.runs(app.ExitFailed, "nothing was changed; this host is still complete")
	m.stages[0].check = nil
	m.is(state.Complete)
	if m.readFile(state.MarkerPath) != marker || m.h.Exists(report.RunIssue) {
		t.Error("a check that could not be made changed the state of the host")
	}

	m.writeFile("/etc/first", "drifted")
	m.stages[0].apply = func(context.Context) error {
		return &engine.Refusal{Findings: []engine.Difference{{Name: "cidr", Object: "pool.cidr", Actual: "overlaps eth0"}}}
	}
	m.runs(app.ExitRefused, "nothing was changed; this host is still complete")
	if m.readFile(state.MarkerPath) != marker {
		t.Error("a stage that refused changed the state of the host")
	}
	m.stages[0].apply = func(context.Context) error { return errors.New("no") }
	m.runs(app.ExitFailed)
	m.is(state.Failed)
	m.stages[0].apply, m.only = nil, []string{"first"}
	m.runs(app.ExitDone) // selected stages cannot restore what an earlier run retired
	m.is(state.NotStarted)
	m.only = nil
	m.boots(app.ExitDone)
	m.is(state.Complete)
}

func TestUnsavableTextOfAServerDoesNotDamageTheJournal(t *testing.T) {
	m := newMachine(t)
	m.stages[1].check = func() error { return errors.New(strings.Repeat("\x1b404 <&>", 1<<19)) }
	m.runs(app.ExitFailed)
	m.is(state.Failed)
	m.stages[1].check = nil
	m.runs(app.ExitDone)
	m.is(state.Complete, "Attempt:2")
	if m.h.Exists(state.DamagedPath(state.JournalPath)) {
		t.Error("firstboot could not read its own journal")
	}
}

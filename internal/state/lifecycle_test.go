package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

func everyState() []state.State {
	return []state.State{
		state.NotStarted, state.Running, state.Refused, state.Failed, state.Complete, state.Retired,
		state.Leaving, state.Left, state.Foreign, state.Damaged,
	}
}

func everyEvent() []state.Event {
	return []state.Event{
		state.StartRun, state.StartAtBoot, state.StartForced, state.StartSelected, state.RunPassed, state.SelectedPassed,
		state.MarkerRestored, state.RunFailed, state.RunRefused, state.RunRejected, state.StartLeave, state.FinishLeave,
		state.SetAside, state.Seal,
	}
}

// Only a run of all stages whose checks passed, or one that restores its own
// marker, makes a host complete.
func TestOnlyAPassedRunCompletesAHost(t *testing.T) {
	for _, s := range everyState() {
		for _, e := range everyEvent() {
			next, err := state.Next(s, e)
			legal := s == state.Running && (e == state.RunPassed || e == state.MarkerRestored)
			if complete := err == nil && next == state.Complete; complete != legal {
				t.Errorf("%s after %s: %s, %v", e, s, next, err)
			}
		}
	}
}

func TestHostThatLeftJoinsOnlyByAWholeRunOfAPerson(t *testing.T) {
	for _, s := range []state.State{state.Left, state.Leaving} {
		for _, e := range everyEvent() {
			next, err := state.Next(s, e)
			ends := err == nil && next != state.Left && next != state.Leaving
			if want := e == state.StartRun || e == state.StartForced || e == state.Seal; ends != want {
				t.Errorf("%s after %s: %s, %v", e, s, next, err)
			}
		}
		if _, err := state.Next(s, state.StartAtBoot); err == nil {
			t.Errorf("a boot starts a run on a host that is %s", s)
		}
	}
}

// From every state, setting files aside and a whole run by a person lead to a
// complete host.
func TestEveryStateHasAWayToComplete(t *testing.T) {
	for _, s := range everyState() {
		at := s
		for _, e := range []state.Event{state.SetAside, state.StartForced, state.RunPassed} {
			if next, err := state.Next(at, e); err == nil {
				at = next
			}
		}
		if at != state.Complete {
			t.Errorf("%s leads to %s", s, at)
		}
		if next, err := state.Next(s, state.Seal); err != nil || next != state.NotStarted {
			t.Errorf("seal after %s: %s, %v", s, next, err)
		}
	}
}

func is(t *testing.T, h *host.Host, want state.State) {
	t.Helper()
	s, err := state.OpenRecords(h, self).Read()
	if err != nil || s.State != want {
		t.Errorf("the state is %s, %v, want %s", s.State, err, want)
	}
}

// end ends a run with an event.
func end(t *testing.T, run *state.Run, e state.Event) {
	t.Helper()
	st, err := run.End(e)
	if err != nil {
		t.Fatal(err)
	}
	j := run.Journal()
	j.State = st
	if err := run.Save(&j); err != nil {
		t.Fatal(err)
	}
	if st == state.Complete {
		err = run.Commit(j)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMarkerOfAnEarlierRunIsNeverRestored(t *testing.T) {
	h := host.New(t.TempDir())
	pass(t, h, state.StartRun, "v1")
	is(t, h, state.Complete)
	end(t, start(t, h, state.StartForced), state.RunFailed)
	is(t, h, state.Failed)
	run := start(t, h, state.StartSelected)
	if run.KeepsComplete("") {
		t.Error("the retired marker of the forced run can be restored")
	}
	if _, err := run.End(state.MarkerRestored); err == nil {
		t.Error("the retired marker of the forced run was restored")
	}
	end(t, run, state.SelectedPassed)
	is(t, h, state.NotStarted)
	pass(t, h, state.StartAtBoot, "v2")
	is(t, h, state.Complete)
}

func TestSelectedStagesRestoreTheirOwnMarkerOnly(t *testing.T) {
	h := host.New(t.TempDir())
	pass(t, h, state.StartRun, "v1")
	run := start(t, h, state.StartSelected)
	if run.KeepsComplete("another configuration") || !run.KeepsComplete("") {
		t.Error("the configuration does not decide")
	}
	end(t, run, state.MarkerRestored)
	is(t, h, state.Complete)
	start(t, h, state.StartSelected) // killed
	is(t, h, state.Retired)
	end(t, start(t, h, state.StartSelected), state.SelectedPassed)
	is(t, h, state.NotStarted)
}

func TestIllegalTransitionsAreErrors(t *testing.T) {
	h := host.New(t.TempDir())
	records := state.OpenRecords(h, self)
	wantIllegal := func(what string, err error) {
		t.Helper()
		var illegal *state.TransitionError
		if !errors.As(err, &illegal) {
			t.Errorf("%s: %v", what, err)
		}
	}
	selected := start(t, h, state.StartSelected)
	_, err := selected.End(state.RunPassed)
	wantIllegal("selected stages complete a host", err)
	wantIllegal("commit before the end", selected.Commit(selected.Journal()))
	j := selected.Journal()
	j.State = state.Complete
	wantIllegal("a complete journal before the end", selected.Save(&j))
	pass(t, h, state.StartRun, "v1")
	_, err = records.Start(state.Start{Event: state.StartRun})
	wantIllegal("a run on a complete host", err)
	leave, err := records.StartLeave(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := leave.Finish(time.Now(), "v1", "boot1", nil); err != nil {
		t.Fatal(err)
	}
	_, err = records.Start(state.Start{Event: state.StartAtBoot})
	wantIllegal("a boot of a host that left", err)
	writeFile(t, h, state.MarkerPath, `{"schema": 1, "machine": {"machine_id": "bbbb"}}`)
	_, err = records.Start(state.Start{Event: state.StartForced})
	wantIllegal("a run over foreign files", err)
	_, err = records.StartLeave(time.Now())
	wantIllegal("leave over foreign files", err)
}

func TestMachineWithoutIdentityCannotStart(t *testing.T) {
	h := host.New(t.TempDir())
	records := state.OpenRecords(h, state.Machine{})
	if _, err := records.Start(state.Start{Event: state.StartRun}); !errors.Is(err, state.ErrNoIdentity) {
		t.Error(err)
	}
	if _, err := records.StartLeave(time.Now()); !errors.Is(err, state.ErrNoIdentity) {
		t.Error(err)
	}
	pass(t, h, state.StartRun, "v1")
	if _, complete := records.Complete(); complete {
		t.Error("the marker of another machine is valid here")
	}
}

func TestCanceledLeaveRestoresTheState(t *testing.T) {
	h := host.New(t.TempDir())
	records := state.OpenRecords(h, self)
	end(t, start(t, h, state.StartRun), state.RunFailed)
	for _, want := range []state.State{state.Failed, state.Complete} {
		leave, err := records.StartLeave(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		is(t, h, state.Leaving)
		if canceled, err := leave.Cancel(); !canceled || err != nil {
			t.Error(canceled, err)
		}
		is(t, h, want)
		if want == state.Failed {
			pass(t, h, state.StartRun, "v1")
		}
	}
	// A second leave does not cancel an earlier one.
	if _, err := records.StartLeave(time.Now()); err != nil {
		t.Fatal(err)
	}
	leave, err := records.StartLeave(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if canceled, err := leave.Cancel(); canceled || err != nil {
		t.Error(canceled, err)
	}
	is(t, h, state.Leaving)
}

func TestSealOfAnyFileRemovesTheMarkerFirst(t *testing.T) {
	for _, path := range []string{state.JournalPath, state.EffectivePath, state.Dir + "/cache", state.MarkerPath} {
		h := host.New(t.TempDir())
		pass(t, h, state.StartRun, "v1")
		writeFile(t, h, state.Dir+"/cache/file", "")
		var removed []string
		recorded := host.New(h.Root(), host.WithStep(func(_, target string) { removed = append(removed, target) }))
		if err := state.SealFile(recorded, path); err != nil {
			t.Fatal(err)
		}
		if len(removed) == 0 || removed[0] != state.MarkerPath || h.Exists(path) {
			t.Errorf("%s: removed %q", path, removed)
		}
	}
}

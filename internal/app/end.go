package app

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// end writes down how the run ended. The marker is the last file it writes.
func (r *run) end(err error) error {
	st, text := r.outcome(err)
	now := time.Now().UTC()
	saved := r.recorder.Change(func(j *state.Journal) { j.State, j.Error, j.Finished = st, text, now })
	if err != nil || st != state.Complete {
		return err
	}
	if saved != nil {
		return r.broke(fmt.Errorf("every stage is done, but the journal cannot be written: %w", saved))
	}
	if err := r.mark(now); err != nil {
		return r.broke(fmt.Errorf("every stage is done, but the completion marker cannot be written: %w", err))
	}
	if err := r.messages().Clear(); err != nil {
		r.console.Printf("warning: %v: the message of an earlier failure is still on the login screen", err)
	}
	r.say("complete, %s", report.Elapsed(time.Since(r.began)))
	return nil
}

// outcome is the state that a run leaves behind, and why.
func (r *run) outcome(err error) (state.State, string) {
	var usage *UsageError
	switch {
	case err == nil && !r.partial:
		return state.Complete, ""
	case err == nil && r.unchanged():
		return state.Complete, ""
	case err == nil:
		return state.NotStarted, "only these stages were run: " + strings.Join(r.names, ", ")
	case errors.As(err, &usage) && r.former == nil:
		return state.NotStarted, err.Error()
	case interrupted(err):
		return state.Failed, "interrupted: " + err.Error()
	case refused(err):
		return state.Refused, err.Error()
	}
	return state.Failed, err.Error()
}

// unchanged tells whether a run of a few stages was one on a host that was
// complete with the same configuration, and is still.
func (r *run) unchanged() bool {
	return r.former != nil && r.former.ConfigDigest == r.recorder.Journal().ConfigDigest
}

// mark writes the completion marker, or puts the former one back into force
// where only a few stages ran.
func (r *run) mark(now time.Time) error {
	if r.partial {
		return state.RestoreMarker(r.state)
	}
	j := r.recorder.Journal()
	c := state.Marker{
		Version: r.Version, ConfigDigest: j.ConfigDigest, Machine: r.this, BootID: j.BootID,
		Started: j.Started, Finished: now,
	}
	return c.Save(r.state)
}

// broke notes that a run failed at its very end.
func (r *run) broke(err error) error {
	// The disk that refused the marker may refuse this as well.
	_ = r.recorder.Change(func(j *state.Journal) { j.State, j.Error = state.Failed, err.Error() })
	return engine.WithHint(err, "is the disk full? see df -h %s", state.Dir)
}

// untouched tells whether no stage has changed anything.
func (r *run) untouched() bool {
	if r.recorder == nil {
		return true
	}
	for _, s := range r.recorder.Journal().Stages {
		if s.State == state.StageChanged || s.State == state.StageFailed && s.Name != r.names[0] {
			return false
		}
	}
	return true
}

func (r *run) messages() report.BootMessages {
	machine := r.machine
	if machine == nil {
		machine = r.state
	}
	return report.BootMessages{State: r.state, Machine: machine}
}

// tell says on Err why the run ended, what happens next and what to type, and
// leaves the same on the login screen.
func (r *run) tell(err error) error {
	var usage *UsageError
	var kept *keptError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &usage), errors.As(err, &kept):
		return err
	case interrupted(err):
		fmt.Fprintf(r.o.Err, "firstboot: interrupted, %s: the next run goes on from here\n", report.Elapsed(time.Since(r.began)))
		return &ReportedError{ExitInterrupted}
	}
	st, _ := r.outcome(err)
	advice := report.Advise(st, report.Facts{Invalid: r.invalid, Untouched: r.untouched()})
	report.WriteFailure(r.o.Err, st, err, advice, time.Since(r.began))
	r.notifier.Send(string(st) + ": " + err.Error())
	if shown := r.messages().Show(st, err, advice, time.Now()); shown != nil {
		fmt.Fprintf(r.o.Err, "firstboot: warning: the login screen does not show this: %v\n", shown)
	}
	return &ReportedError{ExitCode(err)}
}

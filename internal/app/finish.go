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

// finish records the outcome of the run. The marker is the last file it writes.
func (r *run) finish(err error) error {
	event, text := r.outcome(err)
	st, endErr := r.life.End(event)
	if endErr != nil {
		return errors.Join(err, endErr)
	}
	r.final = st
	now := time.Now().UTC()
	saveErr := r.recorder.Change(func(j *state.Journal) { j.State, j.Error, j.Finished = st, text, now })
	if st != state.Complete {
		return err
	}
	if saveErr != nil {
		return r.recordFailure(fmt.Errorf("cannot write the journal after the last stage: %w", saveErr))
	}
	if err := r.life.Commit(r.recorder.Journal()); err != nil {
		return r.recordFailure(fmt.Errorf("cannot write the completion marker after the last stage: %w", err))
	}
	if err != nil {
		return err // the run failed, but changed nothing
	}
	if err := r.messages().Clear(); err != nil {
		r.console.Printf("warning: cannot remove the message of an earlier failure from the login screen: %v", err)
	}
	r.printf("complete, %s", report.Elapsed(time.Since(r.began)))
	return nil
}

// outcome returns what the result of the run means for the host, and why.
func (r *run) outcome(err error) (event state.Event, text string) {
	var usage *UsageError
	keeps := r.life.KeepsComplete(r.recorder.Journal().ConfigDigest)
	if err != nil {
		text = err.Error()
	}
	switch {
	case err == nil && !r.partial:
		return state.RunPassed, ""
	case err == nil && keeps:
		return state.MarkerRestored, ""
	case err == nil:
		return state.SelectedPassed, "only these stages were run: " + strings.Join(r.names, ", ")
	case keeps && !r.changes.any():
		return state.MarkerRestored, text
	case errors.As(err, &usage) && !r.life.WasComplete():
		return state.RunRejected, text
	case interrupted(err):
		return state.RunFailed, interruption(err)
	case refused(err):
		return state.RunRefused, text
	}
	return state.RunFailed, text
}

// interruption describes why a run was interrupted.
func interruption(err error) string {
	var stopped *SignalError
	if errors.As(err, &stopped) {
		return stopped.Error()
	}
	return "interrupted: " + err.Error()
}

// recordFailure records a failure after the last stage and returns it.
func (r *run) recordFailure(err error) error {
	r.life.Fail()
	r.final = state.Failed
	// The disk that refused the marker may also refuse the journal.
	_ = r.recorder.Change(func(j *state.Journal) { j.State, j.Error = state.Failed, err.Error() })
	return engine.WithHint(err, "is the disk full? see df -h %s", state.Dir)
}

// changedNothing reports whether no stage has changed anything. The first stage
// only checks, so it may have failed.
func (r *run) changedNothing() bool {
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
	h := r.host
	if h == nil {
		h = r.state
	}
	messages := report.BootMessages{State: r.state, Machine: h}
	if r.recorder != nil {
		messages.Attempt = r.recorder.Journal().Attempt
	}
	return messages
}

// reportError prints why the run failed, what happens next and what to type, and
// shows the same on the login screen.
func (r *run) reportError(err error) error {
	var usage *UsageError
	var unchanged *unchangedError
	var left *LeftError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &usage), errors.As(err, &unchanged), errors.As(err, &left):
		r.showInterrupted(err.Error())
		return err
	case interrupted(err):
		fmt.Fprintf(r.o.Err, "firstboot: interrupted after %s; %s\n", report.Elapsed(time.Since(r.began)), r.afterInterruption())
		r.showInterrupted(interruption(err))
		return &ReportedError{ExitInterrupted}
	}
	st := state.Failed
	if refused(err) {
		st = state.Refused
	}
	advice := report.Advise(st, report.Facts{Invalid: r.invalid, Untouched: r.changedNothing()})
	if note := r.unaffected(); note != "" {
		// The host's own state has not changed, so the login screen does not either.
		advice = report.Advice{Next: note, Type: []report.Command{{Line: "firstboot status"}}}
		report.WriteFailure(r.o.Err, st, err, advice, time.Since(r.began))
		return &ReportedError{ExitCode(err)}
	}
	report.WriteFailure(r.o.Err, st, err, advice, time.Since(r.began))
	r.notifier.Send(string(st) + ": " + err.Error())
	if showErr := r.messages().Show(st, err, advice, time.Now()); showErr != nil {
		fmt.Fprintf(r.o.Err, "firstboot: warning: cannot show this on the login screen: %v\n", showErr)
	}
	return &ReportedError{ExitCode(err)}
}

// unaffected describes the state of a host that a failed run of selected stages
// did not change; otherwise it returns "".
func (r *run) unaffected() string {
	switch r.final {
	case state.Complete:
		return "nothing was changed; this host is still complete"
	case state.Left, state.Leaving:
		return "this host stays out of the network"
	}
	return ""
}

// showInterrupted replaces the login screen's message about the run in progress.
func (r *run) showInterrupted(reason string) {
	if r.screen != nil && r.unaffected() == "" {
		// status reports the same, so an error here hides nothing.
		_ = r.messages().ShowInterrupted(reason, report.Advise(state.Failed, report.Facts{}), time.Now())
	}
}

func (r *run) afterInterruption() string {
	if note := r.unaffected(); note != "" {
		return note
	}
	return "the next run continues from here"
}

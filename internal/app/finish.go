package app

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// finish records the outcome of the run. The marker is the last file it writes.
func (r *run) finish(err error) error {
	st, text := r.outcome(err)
	now := time.Now().UTC()
	saveErr := r.recorder.Change(func(j *state.Journal) { j.State, j.Error, j.Finished = st, text, now })
	if err != nil || st != state.Complete {
		return err
	}
	if saveErr != nil {
		return r.recordFailure(fmt.Errorf("cannot write the journal after the last stage: %w", saveErr))
	}
	if err := r.writeMarker(now); err != nil {
		return r.recordFailure(fmt.Errorf("cannot write the completion marker after the last stage: %w", err))
	}
	if err := r.messages().Clear(); err != nil {
		r.console.Printf("warning: cannot remove the message of an earlier failure from the login screen: %v", err)
	}
	r.printf("complete, %s", report.Elapsed(time.Since(r.began)))
	return nil
}

// outcome returns the state of the machine after the run, and the reason.
func (r *run) outcome(err error) (state.State, string) {
	var usage *UsageError
	switch {
	case err == nil && !r.partial:
		return state.Complete, ""
	case err == nil && r.stillComplete():
		return state.Complete, ""
	case err == nil:
		return state.NotStarted, "only these stages were run: " + strings.Join(r.names, ", ")
	case errors.As(err, &usage) && r.retired == nil:
		return state.NotStarted, err.Error()
	case interrupted(err):
		return state.Failed, interruption(err)
	case refused(err):
		return state.Refused, err.Error()
	}
	return state.Failed, err.Error()
}

// interruption describes why a run was interrupted. The cause of a context that
// signal.NotifyContext ended is only known by its text.
func interruption(err error) string {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if strings.HasPrefix(err.Error(), s.String()+" ") {
			return "stopped by " + unix.SignalName(s)
		}
	}
	return "interrupted: " + err.Error()
}

// stillComplete reports whether a run of selected stages used the configuration
// that the host was complete with before.
func (r *run) stillComplete() bool {
	return r.retired != nil && r.retired.ConfigDigest == r.recorder.Journal().ConfigDigest
}

// writeMarker writes the completion marker. After a run of selected stages it
// restores the retired one.
func (r *run) writeMarker(now time.Time) error {
	if r.partial {
		return state.RestoreMarker(r.state)
	}
	j := r.recorder.Journal()
	marker := state.Marker{
		Version: r.Version, ConfigDigest: j.ConfigDigest, Machine: r.identity, BootID: j.BootID,
		Started: j.Started, Finished: now,
	}
	return marker.Save(r.state)
}

// recordFailure records a failure after the last stage and returns it.
func (r *run) recordFailure(err error) error {
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
	return report.BootMessages{State: r.state, Machine: h}
}

// reportError prints why the run failed, what happens next and what to type, and
// shows the same on the login screen.
func (r *run) reportError(err error) error {
	var usage *UsageError
	var unchanged *unchangedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &usage), errors.As(err, &unchanged):
		return err
	case interrupted(err):
		fmt.Fprintf(r.o.Err, "firstboot: interrupted after %s; the next run continues from here\n", report.Elapsed(time.Since(r.began)))
		return &ReportedError{ExitInterrupted}
	}
	st, _ := r.outcome(err)
	advice := report.Advise(st, report.Facts{Invalid: r.invalid, Untouched: r.changedNothing()})
	report.WriteFailure(r.o.Err, st, err, advice, time.Since(r.began))
	r.notifier.Send(string(st) + ": " + err.Error())
	if showErr := r.messages().Show(st, err, advice, time.Now()); showErr != nil {
		fmt.Fprintf(r.o.Err, "firstboot: warning: cannot show this on the login screen: %v\n", showErr)
	}
	return &ReportedError{ExitCode(err)}
}

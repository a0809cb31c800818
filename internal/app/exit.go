package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

// The exit codes of every command. Scripts depend on them.
const (
	ExitDone        = 0   // done, or true
	ExitFailed      = 1   // a stage failed
	ExitUsage       = 2   // the command line is invalid
	ExitConfig      = 3   // the configuration is invalid or cannot be read
	ExitRefused     = 4   // preflight refused
	ExitHeld        = 5   // another run holds the lock
	ExitPending     = 6   // plan: something would change
	ExitRunning     = 7   // status: a run is in progress
	ExitNotStarted  = 8   // status: no run has started
	ExitDrifted     = 9   // status, verify: the machine differs from the configuration that it was completed with
	ExitForeign     = 10  // status: the marker belongs to another machine
	ExitUnknown     = 11  // status, verify, plan: a check could not be made
	ExitLeft        = 12  // status: the host left the network; run: a boot does not join it again
	ExitTimeout     = 124 // status --wait timed out
	ExitInterrupted = 130 // stopped by a signal
)

// UsageError reports an invalid command line.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

func (e *UsageError) Unwrap() error { return e.Err }

// ConfigError reports a configuration that is invalid or cannot be read.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

func (e *ConfigError) Unwrap() error { return e.Err }

// ReportedError is an error that was already printed; only its exit code is left
// to be returned.
type ReportedError struct{ Code int }

func (e *ReportedError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// TotalTimeoutError reports a run that took longer than timeouts.total.
type TotalTimeoutError struct{ Limit string }

func (e *TotalTimeoutError) Error() string { return "timed out after " + e.Limit + " (timeouts.total)" }

// Timeout distinguishes the error from an interruption.
func (e *TotalTimeoutError) Timeout() bool { return true }

// Is makes the error match context.DeadlineExceeded.
func (e *TotalTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// ExitCode returns the exit code for the error of a command.
func ExitCode(err error) int {
	var reported *ReportedError
	var usage *UsageError
	var held *state.LockHeldError
	var left *LeftError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &reported):
		return reported.Code
	case errors.As(err, &usage):
		return ExitUsage
	case isConfig(err):
		return ExitConfig
	case errors.As(err, &held):
		return ExitHeld
	case errors.As(err, &left):
		return ExitLeft
	case refused(err):
		return ExitRefused
	case interrupted(err):
		return ExitInterrupted
	}
	return ExitFailed
}

// StateExitCode returns the exit code of status for a state.
func StateExitCode(s state.State) int {
	switch s {
	case state.Complete:
		return ExitDone
	case state.Failed:
		return ExitFailed
	case state.Refused:
		return ExitRefused
	case state.Running:
		return ExitRunning
	case state.NotStarted:
		return ExitNotStarted
	case state.Drifted:
		return ExitDrifted
	case state.Foreign:
		return ExitForeign
	case state.Left:
		return ExitLeft
	}
	return ExitUnknown
}

func isConfig(err error) bool {
	var ours *ConfigError
	var problems config.Problems
	return errors.As(err, &ours) || errors.As(err, &problems)
}

// refused reports whether only refusals made a run fail.
func refused(err error) bool {
	var run *engine.Error
	var refusal *engine.Refusal
	if !errors.As(err, &run) {
		return errors.As(err, &refusal)
	}
	for _, cause := range run.Stages {
		if !errors.As(cause, &refusal) {
			return false
		}
	}
	return len(run.Stages) > 0
}

// interrupted reports whether a signal ended a run. A time limit is no
// interruption, and neither is a stage that failed (*engine.Error), whatever
// error it wraps.
func interrupted(err error) bool {
	var run *engine.Error
	return !errors.As(err, &run) && errors.Is(err, context.Canceled)
}

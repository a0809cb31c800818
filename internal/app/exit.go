package app

import (
	"context"
	"errors"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

// The exit codes of every command. Scripts hold on to them.
const (
	ExitDone        = 0   // done, or true
	ExitFailed      = 1   // a stage failed
	ExitUsage       = 2   // the command line is wrong
	ExitConfig      = 3   // the configuration is invalid or cannot be read
	ExitRefused     = 4   // preflight refused
	ExitHeld        = 5   // another run holds the lock
	ExitPending     = 6   // plan: something would change
	ExitRunning     = 7   // status: a run is under way
	ExitNotStarted  = 8   // status: no run has begun
	ExitDrifted     = 9   // status, verify: complete once, not true now
	ExitForeign     = 10  // status: the marker belongs to another machine
	ExitUnknown     = 11  // status, verify, plan: a check could not be made
	ExitTimeout     = 124 // status --wait: its time ran out
	ExitInterrupted = 130
)

// UsageError is a command line that cannot be meant.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

func (e *UsageError) Unwrap() error { return e.Err }

// ConfigError is a configuration that is invalid or cannot be read.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

func (e *ConfigError) Unwrap() error { return e.Err }

// StateError carries what was already shown to people into the exit code.
type ReportedError struct{ Code int }

func (e *ReportedError) Error() string { return "the machine is not as it should be" }

// TotalError is a run that timeouts.total ended.
type TotalTimeoutError struct{ Limit string }

func (e *TotalTimeoutError) Error() string { return "no end within timeouts.total (" + e.Limit + ")" }

// Timeout tells it from an interruption.
func (e *TotalTimeoutError) Timeout() bool { return true }

// Is makes it the end of a context (context.DeadlineExceeded).
func (e *TotalTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// ExitCode is the exit code that tells a script what err says to people.
func ExitCode(err error) int {
	var st *ReportedError
	var usage *UsageError
	var held *state.LockHeldError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &st):
		return st.Code
	case errors.As(err, &usage):
		return ExitUsage
	case isConfig(err):
		return ExitConfig
	case errors.As(err, &held):
		return ExitHeld
	case refused(err):
		return ExitRefused
	case interrupted(err):
		return ExitInterrupted
	}
	return ExitFailed
}

// ExitOf is the exit code that stands for a state.
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
	}
	return ExitUnknown
}

func isConfig(err error) bool {
	var ours *ConfigError
	var problems config.Problems
	return errors.As(err, &ours) || errors.As(err, &problems)
}

// refused tells whether refusals, and nothing else, ended a run.
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

// interrupted tells whether a signal, not a time limit, ended a run. A stage
// that failed by itself says so with an *engine.Error, whatever is inside it.
func interrupted(err error) bool {
	var run *engine.Error
	return !errors.As(err, &run) && errors.Is(err, context.Canceled)
}

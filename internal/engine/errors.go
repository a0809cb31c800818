package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
)

// Wait reports that a stage waits for something outside this host, such as etcd
// or a download. The engine repeats the stage until the run's deadline and
// shows what it waits for. A Wait for a permanent error (package fault) is a
// failure.
type Wait struct {
	For   string        // what the stage waits for: "etcd at http://10.0.0.1:2379"
	Err   error         // the last error
	After time.Duration // least time until the next attempt, as a server requested it; the back-off is added, so that hosts do not return together
}

func (w *Wait) Error() string {
	if w.Err == nil {
		return "waiting for " + w.For
	}
	return fmt.Sprintf("waiting for %s: %v", w.For, w.Err)
}

func (w *Wait) Unwrap() error { return w.Err }

// FaultClass implements fault.Classified.
func (w *Wait) FaultClass() fault.Class {
	if fault.IsPermanent(w.Err) {
		return fault.Permanent
	}
	return fault.Transient
}

// FaultKind implements fault.Classified.
func (*Wait) FaultKind() fault.Kind { return fault.Unknown }

// Retry reports that another attempt may succeed, unless Err has another class
// (package fault). The number of attempts is limited (Options.Attempts).
type Retry struct {
	After time.Duration // least time until the next attempt; 0: the back-off decides
	Err   error
}

func (r *Retry) Error() string {
	if r.Err == nil {
		return "another attempt is needed"
	}
	return r.Err.Error()
}

func (r *Retry) Unwrap() error { return r.Err }

// FaultClass implements fault.Classified.
func (r *Retry) FaultClass() fault.Class {
	if class := fault.ClassOf(r.Err); class != fault.Unclassified {
		return class
	}
	return fault.Retryable
}

// FaultKind implements fault.Classified.
func (*Retry) FaultKind() fault.Kind { return fault.Unknown }

// Refusal reports that a stage refuses to change this machine. Nothing was
// changed. It lists every finding.
type Refusal struct{ Findings []Difference }

func (r *Refusal) Error() string {
	lines := make([]string, len(r.Findings))
	for i, d := range r.Findings {
		lines[i] = d.Name + ": " + d.String()
	}
	return "refused: " + strings.Join(lines, "; ")
}

// Hint returns the fix of the first finding.
func (r *Refusal) Hint() string {
	if len(r.Findings) == 0 {
		return ""
	}
	return Fixes(r.Findings)
}

// FaultClass implements fault.Classified.
func (*Refusal) FaultClass() fault.Class { return fault.Permanent }

// FaultKind implements fault.Classified.
func (*Refusal) FaultKind() fault.Kind { return fault.Config }

// DeadlineError reports that a Check or an Apply took longer than its limit.
// Another attempt may succeed.
type DeadlineError struct {
	Limit time.Duration
	Doing string // what it did when the limit passed: "check", "loading the node image"
	Err   error  // what the stage returned
}

func (e *DeadlineError) Error() string {
	text := fmt.Sprintf("%s timed out after %s", e.Doing, e.Limit)
	if e.Err != nil && e.Err.Error() != context.DeadlineExceeded.Error() {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *DeadlineError) Unwrap() error { return e.Err }

// Timeout distinguishes the error from an interruption.
func (e *DeadlineError) Timeout() bool { return true }

// FaultClass implements fault.Classified.
func (*DeadlineError) FaultClass() fault.Class { return fault.Retryable }

// FaultKind implements fault.Classified.
func (*DeadlineError) FaultKind() fault.Kind { return fault.Timeout }

// StoppedError reports that a stage stopped waiting because the run cannot
// succeed anyway.
type StoppedError struct {
	For    string // what it waited for
	Failed string // the stage that failed
	Err    error  // the last error of the wait
}

func (e *StoppedError) Error() string {
	text := fmt.Sprintf("stopped waiting for %s, because %s failed", e.For, e.Failed)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *StoppedError) Unwrap() error { return e.Err }

// hinted is an error with a hint.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint returns what a person can do about the error.
func (h hinted) Hint() string { return h.hint }

// WithHint adds to err what a person can do about it.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return hinted{err, fmt.Sprintf(format, args...)}
}

// Hint returns what a person can do about err, or "" (fault.Hint).
func Hint(err error) string { return fault.Hint(err) }

// Fixes returns what a person can do about the differences, each fix once.
func Fixes(all []Difference) string {
	var fixes []string
	for _, d := range all {
		if d.Fix != "" && !slices.Contains(fixes, d.Fix) {
			fixes = append(fixes, d.Fix)
		}
	}
	return strings.Join(fixes, "; ")
}

// stillDiffers returns the error of a stage whose check finds differences after
// Apply.
func stillDiffers(check CheckResult) error {
	lines := make([]string, len(check.Differences))
	for i, d := range check.Differences {
		lines[i] = d.String()
	}
	err := fmt.Errorf("still differs after the change: %s", strings.Join(lines, "; "))
	if hint := Fixes(check.Differences); hint != "" {
		return WithHint(err, "%s", hint)
	}
	return err
}

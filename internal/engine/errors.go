package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Wait reports that a stage waits for something outside this host, such as etcd
// or a download. The engine repeats the stage until the run's deadline and
// shows what it waits for.
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

// Retry reports that another attempt may succeed. The number of attempts is
// limited (Options.Attempts).
type Retry struct {
	After time.Duration // least time until the next attempt; 0: the back-off decides
	Err   error
}

func (r *Retry) Error() string { return r.Err.Error() }

func (r *Retry) Unwrap() error { return r.Err }

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

// Hint returns what a person can do about err, or "". It is the first hint in
// the chain of err; any error with a method Hint() string can give one.
func Hint(err error) string {
	var r *Refusal
	if errors.As(err, &r) && len(r.Findings) > 0 {
		return r.Findings[0].Fix
	}
	var h interface{ Hint() string }
	for errors.As(err, &h) {
		if text := h.Hint(); text != "" {
			return text
		}
		e, ok := h.(error)
		if !ok {
			return ""
		}
		err = errors.Unwrap(e)
	}
	return ""
}

// stillDiffers returns the error of a stage whose check finds differences after
// Apply.
func stillDiffers(check CheckResult) error {
	lines := make([]string, len(check.Differences))
	hint := ""
	for i, d := range check.Differences {
		lines[i] = d.String()
		if hint == "" {
			hint = d.Fix
		}
	}
	err := fmt.Errorf("still differs after the change: %s", strings.Join(lines, "; "))
	if hint != "" {
		return WithHint(err, "%s", hint)
	}
	return err
}

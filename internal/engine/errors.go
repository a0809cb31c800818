package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Wait says that only time is needed: etcd that is not there yet, a download
// that broke. The engine tries again, without limit but for the run's own
// deadline, and shows what is being waited for.
type Wait struct {
	For   string        // what is being waited for: "etcd at http://10.0.0.1:2379"
	Err   error         // what was seen last
	After time.Duration // not before, as a server asked; the back-off comes on top, so that hosts do not all come back together
}

func (w *Wait) Error() string {
	if w.Err == nil {
		return "waiting for " + w.For
	}
	return fmt.Sprintf("waiting for %s: %v", w.For, w.Err)
}

func (w *Wait) Unwrap() error { return w.Err }

// Retry says that another try may help. The engine tries a limited number of
// times (Options.Attempts).
type Retry struct {
	After time.Duration // at least this long; 0 leaves it to the back-off
	Err   error
}

func (r *Retry) Error() string { return r.Err.Error() }

func (r *Retry) Unwrap() error { return r.Err }

// Refusal says that the machine must not be touched as it is; nothing was
// changed. It lists every finding.
type Refusal struct{ Findings []Difference }

func (r *Refusal) Error() string {
	lines := make([]string, len(r.Findings))
	for i, d := range r.Findings {
		lines[i] = d.Name + ": " + d.String()
	}
	return "refused: " + strings.Join(lines, "; ")
}

// hinted carries what a person can do about an error.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint says what a person can do.
func (h hinted) Hint() string { return h.hint }

// WithHint adds to err what a person can do about it.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return hinted{err, fmt.Sprintf(format, args...)}
}

// Hint returns what a person can do about err, or "": what the first error of
// its chain that has a method Hint says, whichever package it is from.
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

// differs is the error of a stage whose second check still differs.
func differs(f CheckResult) error {
	lines := make([]string, len(f.Differences))
	hint := ""
	for i, d := range f.Differences {
		lines[i] = d.String()
		if hint == "" {
			hint = d.Fix
		}
	}
	err := fmt.Errorf("still not as wanted: %s", strings.Join(lines, "; "))
	if hint != "" {
		return WithHint(err, "%s", hint)
	}
	return err
}

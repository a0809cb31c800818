package artifact

import (
	"errors"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
)

// Error is why an artifact cannot be provided. It contains no credentials.
type Error struct {
	Name   string        // the artifact's
	Source string        // its URL without credentials; may be empty
	Err    error         // the cause
	Class  fault.Class   // Transient or Permanent
	Kind   fault.Kind    // Unknown: that of Err
	After  time.Duration // the pause that the server requested; 0: none
	hint   string        // what a person can do; may be empty
}

func (e *Error) Error() string {
	if e.Source == "" {
		return fmt.Sprintf("cannot get %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("cannot fetch %s from %s: %v", e.Name, e.Source, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// FaultClass implements fault.Classified.
func (e *Error) FaultClass() fault.Class { return e.Class }

// FaultKind implements fault.Classified.
func (e *Error) FaultKind() fault.Kind { return e.Kind }

// Hint is what a person can do; it may be empty.
func (e *Error) Hint() string { return e.hint }

// RetryAfter returns the pause that the server requested, or 0.
func (e *Error) RetryAfter() time.Duration { return e.After }

// permanentError is an *Error about this artifact that needs a person.
func (r Ref) permanentError(err error, hint string) error {
	return r.wrap(fault.Permanent, err, hint)
}

// transientError is an *Error about this artifact that passes with time.
func (r Ref) transientError(err error) error {
	return r.wrap(fault.Transient, err, "")
}

// wrap makes err an *Error about this artifact, unless it is one. If hint is
// empty, it keeps the hint of err.
func (r Ref) wrap(class fault.Class, err error, hint string) error {
	var wrapped *Error
	if errors.As(err, &wrapped) {
		return err
	}
	if hint == "" {
		hint = fault.Hint(err)
	}
	return &Error{Name: r.Name, Source: redact(r.URL), Err: err, Class: class, hint: hint}
}

// MismatchError means that a file does not have the pinned sha256. A fetched
// file was removed.
type MismatchError struct {
	Name      string
	Source    string // without credentials
	Want, Got string // sha256, 64 hexadecimal digits
	Size      int64  // of the file, in bytes
	// MaybeTruncated is set if the server did not send the size, so that the
	// file may be incomplete.
	MaybeTruncated bool
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("cannot use %s from %s: sha256 is %s (%d bytes), expected %s", e.Name, e.Source, e.Got, e.Size, e.Want)
}

// FaultClass implements fault.Classified.
func (e *MismatchError) FaultClass() fault.Class {
	if e.MaybeTruncated {
		return fault.Transient
	}
	return fault.Permanent
}

// FaultKind implements fault.Classified.
func (*MismatchError) FaultKind() fault.Kind { return fault.Checksum }

// Hint is what a person can do.
func (e *MismatchError) Hint() string {
	switch {
	case e.MaybeTruncated:
		return "the server did not send the file's size, so the file may be incomplete"
	case e.Size < 16<<10:
		return "a file this small is often an error page: open the url; if it is the intended file, correct the sha256"
	}
	return "correct the url, or the sha256 if this is the intended file; if both were correct before, find out who changed the file"
}

// invalidError means that a file is not valid, whatever its source.
type invalidError struct {
	text, hint string
}

func (e *invalidError) Error() string { return e.text }
func (e *invalidError) Hint() string  { return e.hint }

// FaultClass implements fault.Classified.
func (*invalidError) FaultClass() fault.Class { return fault.Permanent }

// FaultKind implements fault.Classified.
func (*invalidError) FaultKind() fault.Kind { return fault.Data }

// invalidf returns an *invalidError.
func invalidf(hint, format string, args ...any) error {
	return &invalidError{fmt.Sprintf(format, args...), hint}
}

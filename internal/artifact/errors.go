package artifact

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Error is why an artifact cannot be provided. It contains no credentials.
type Error struct {
	Name       string        // the artifact's
	Source     string        // its URL without credentials; may be empty
	Err        error         // the cause
	Permanent  bool          // a retry cannot help
	RetryAfter time.Duration // the pause that the server requested; 0: none
	hint       string        // what a person can do; may be empty
}

func (e *Error) Error() string {
	if e.Source == "" {
		return fmt.Sprintf("cannot get %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("cannot fetch %s from %s: %v", e.Name, e.Source, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether a retry may help.
func (e *Error) Temporary() bool { return !e.Permanent }

// Hint is what a person can do; it may be empty.
func (e *Error) Hint() string { return e.hint }

// permanentError is an *Error about this artifact that a retry cannot cure.
func (r Ref) permanentError(err error, hint string) error { return r.wrap(err, true, hint) }

// transientError is an *Error about this artifact that a retry may cure.
func (r Ref) transientError(err error, hint string) error { return r.wrap(err, false, hint) }

// wrap makes err an *Error about this artifact, unless it is one. If hint is
// empty, it keeps the hint of err.
func (r Ref) wrap(err error, permanent bool, hint string) error {
	var wrapped *Error
	if errors.As(err, &wrapped) {
		return err
	}
	var hinted interface{ Hint() string }
	if hint == "" && errors.As(err, &hinted) {
		hint = hinted.Hint()
	}
	return &Error{Name: r.Name, Source: redact(r.URL), Err: err, Permanent: permanent, hint: hint}
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
	return fmt.Sprintf("cannot use %s from %s: sha256 is %s (%d bytes), want %s", e.Name, e.Source, e.Got, e.Size, e.Want)
}

// Temporary reports whether a retry may help.
func (e *MismatchError) Temporary() bool { return e.MaybeTruncated }

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

// IsPermanent reports whether a retry cannot cure err: a wrong digest, a
// missing file, an invalid URL.
func IsPermanent(err error) bool {
	var c classifiedError
	return errors.As(err, &c) && !c.Temporary()
}

// classifiedError is implemented by this package's errors. (Temporary alone
// would also match the errors of package net, which call a refused connection
// permanent.)
type classifiedError interface {
	Temporary() bool
	Hint() string
}

// invalidError means that a file is not valid, whatever its source.
type invalidError struct {
	text, hint string
}

func (e *invalidError) Error() string   { return e.text }
func (e *invalidError) Temporary() bool { return false }
func (e *invalidError) Hint() string    { return e.hint }

// invalidf returns an *invalidError.
func invalidf(hint, format string, args ...any) error {
	return &invalidError{fmt.Sprintf(format, args...), hint}
}

// sanitize makes untrusted text safe for a message: one short line without
// control characters.
func sanitize(s string) string {
	const maxLength = 120
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxLength {
		s = strings.ToValidUTF8(s[:maxLength], "") + "…"
	}
	return s
}

package artifact

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Error is why an artifact cannot be had. It never holds credentials.
type Error struct {
	Name       string        // the artifact's
	Source     string        // its URL without credentials; empty where it has none
	Err        error         // what was seen
	Permanent  bool          // another try cannot help
	RetryAfter time.Duration // what the server asked for; 0: it did not
	Advice     string        // what a person can do; may be empty
}

func (e *Error) Error() string {
	if e.Source == "" {
		return fmt.Sprintf("cannot get %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("cannot fetch %s from %s: %v", e.Name, e.Source, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary tells whether another try may help.
func (e *Error) Temporary() bool { return !e.Permanent }

// Hint says what a person can do; it may be empty.
func (e *Error) Hint() string { return e.Advice }

// MismatchError says that a file is not the one that was pinned. What was
// fetched is gone when it is returned.
type MismatchError struct {
	Name      string
	Source    string // without credentials
	Want, Got string // sha256, 64 hexadecimal digits
	Size      int64  // of what was fetched, in bytes
	// CutShort says that the server did not tell the size, so that the file
	// may only be a part of the right one.
	CutShort bool
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("cannot use %s from %s: sha256 is %s (%d bytes), want %s", e.Name, e.Source, e.Got, e.Size, e.Want)
}

// Temporary tells whether another try may help.
func (e *MismatchError) Temporary() bool { return e.CutShort }

// Hint says what a person can do.
func (e *MismatchError) Hint() string {
	switch {
	case e.CutShort:
		return "the server did not say how long the file is, so it may have been cut short"
	case e.Size < 16<<10:
		return "so small a file is often an error page: open the url; else correct the sha256 if this file is the one that is meant"
	}
	return "correct the url, or the sha256 if this file is the one that is meant; if it was right before, find out who changed the file"
}

// IsPermanent tells whether err cannot be cured by trying again: a wrong
// digest, a file that is not there, a URL that nobody can fetch.
func IsPermanent(err error) bool {
	var v verdict
	return errors.As(err, &v) && !v.Temporary()
}

// verdict is what the errors of this package have in common. (Temporary alone
// would take in the errors of net, which call a refused connection permanent.)
type verdict interface {
	Temporary() bool
	Hint() string
}

// refusal is why a file is not what it should be, whatever its source.
type refusal struct {
	text, advice string
}

func (r *refusal) Error() string   { return r.text }
func (r *refusal) Temporary() bool { return false }
func (r *refusal) Hint() string    { return r.advice }

func refuse(advice, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), advice}
}

// clip makes a foreign text fit for a message: one short line without control
// characters.
func clip(s string) string {
	const most = 120
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

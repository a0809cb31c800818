// Package fault classifies errors: whether time, another attempt or a person can
// resolve them, and what kind of fault they are. The code that makes a call
// knows what its failure means, so it classifies the error; every caller above
// only reads the class. The package knows nothing about stages, machines or
// servers, and it makes no calls.
package fault

import (
	"errors"
	"time"
)

// Class states what can resolve an error. The classes are in the order of their
// severity.
type Class int

// The classes.
const (
	Unclassified Class = iota // nobody classified the error
	Transient                 // it passes with time: wait for it
	Retryable                 // another attempt may succeed; the number of attempts is limited
	Permanent                 // a person must act
)

// String returns the class in lower case.
func (c Class) String() string {
	switch c {
	case Transient:
		return "transient"
	case Retryable:
		return "retryable"
	case Permanent:
		return "permanent"
	}
	return "unclassified"
}

// Kind is the kind of a fault, for records and statistics.
type Kind string

// The kinds.
const (
	Unknown  Kind = ""
	DNS      Kind = "dns"      // a name cannot be resolved
	Refused  Kind = "refused"  // nothing listens on the port
	Network  Kind = "network"  // another failure below TLS: reset, no route
	Timeout  Kind = "timeout"  // no response in time
	TLS      Kind = "tls"      // a certificate or a handshake is not accepted
	Clock    Kind = "clock"    // the machine's clock is wrong
	HTTP4xx  Kind = "http-4xx" // a server rejects the request
	HTTP5xx  Kind = "http-5xx" // a server fails
	Auth     Kind = "auth"     // credentials are missing or wrong
	Checksum Kind = "checksum" // a file does not have its pinned digest
	Lock     Kind = "lock"     // another process or host holds a lock
	Disk     Kind = "disk"     // a file system is full, read-only or broken
	Data     Kind = "data"     // a response or a stored value cannot be parsed
	Config   Kind = "config"   // the configuration does not fit this host or cluster
)

// Classified is an error that states its class. The zero values Unclassified
// and Unknown leave the decision to the error that it wraps.
type Classified interface {
	error
	FaultClass() Class
	FaultKind() Kind
}

// Error is a classified error. Its text is that of Err.
type Error struct {
	Class Class
	Kind  Kind
	// Advice is what a person can do; it may be empty.
	Advice string
	// Subject is what a transient error waits for: "the registry quay.io". If it
	// is empty, WaitsFor describes the kind.
	Subject string
	// After is the least time until the next attempt, as a server requested it.
	After time.Duration
	Err   error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Class.String() + " error"
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// FaultClass implements Classified.
func (e *Error) FaultClass() Class { return e.Class }

// FaultKind implements Classified.
func (e *Error) FaultKind() Kind { return e.Kind }

// Hint returns what a person can do; it may be empty.
func (e *Error) Hint() string { return e.Advice }

// RetryAfter returns the least time until the next attempt.
func (e *Error) RetryAfter() time.Duration { return e.After }

// New classifies err. It returns nil if err is nil.
func New(class Class, kind Kind, err error) error { return WithHint(class, kind, err, "") }

// WithHint classifies err and adds what a person can do. It returns nil if err
// is nil.
func WithHint(class Class, kind Kind, err error, advice string) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Kind: kind, Advice: advice, Err: err}
}

// ClassOf returns the class of err. The outermost classification in a chain
// counts, because it knows most about the purpose of the call. Of joined errors
// the most severe class counts.
func ClassOf(err error) Class {
	if c, ok := err.(Classified); ok && c.FaultClass() != Unclassified { //nolint:errorlint // this walks the chain itself
		return c.FaultClass()
	}
	class := Unclassified
	for _, cause := range causes(err) {
		class = max(class, ClassOf(cause))
	}
	return class
}

// IsPermanent reports whether err needs a person.
func IsPermanent(err error) bool { return ClassOf(err) == Permanent }

// KindOf returns the kind of err, by the rules of ClassOf: of joined errors, the
// kind of the most severe one.
func KindOf(err error) Kind {
	if c, ok := err.(Classified); ok && c.FaultKind() != Unknown { //nolint:errorlint // this walks the chain itself
		return c.FaultKind()
	}
	class, kind := Unclassified, Unknown
	for _, cause := range causes(err) {
		if k := KindOf(cause); k != Unknown && (kind == Unknown || ClassOf(cause) > class) {
			class, kind = ClassOf(cause), k
		}
	}
	return kind
}

// causes returns the errors that err wraps directly.
func causes(err error) []error {
	switch e := err.(type) { //nolint:errorlint // this walks the chain itself
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil {
			return []error{cause}
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// Hint returns what a person can do about err, or "". It is the first hint that
// is not empty; any error with a method Hint() string can give one.
func Hint(err error) string {
	if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
		return h.Hint()
	}
	for _, cause := range causes(err) {
		if hint := Hint(cause); hint != "" {
			return hint
		}
	}
	return ""
}

// RetryAfter returns the least time until the next attempt that an error in the
// chain of err requests, or 0.
func RetryAfter(err error) time.Duration {
	var r interface{ RetryAfter() time.Duration }
	if errors.As(err, &r) {
		return r.RetryAfter()
	}
	return 0
}

// WaitsFor returns what a transient error waits for, in words that complete
// "waiting for …".
func WaitsFor(err error) string {
	var e *Error
	for cause := err; errors.As(cause, &e); cause = e.Err {
		if e.Subject != "" {
			return e.Subject
		}
	}
	switch KindOf(err) {
	case DNS:
		return "the name to be resolved"
	case Refused, Network, Timeout, TLS:
		return "the server to respond"
	case HTTP4xx, HTTP5xx:
		return "the server to accept the request"
	case Clock:
		return "the clock to be set"
	case Lock:
		return "the lock to be released"
	case Disk:
		return "the disk"
	}
	return "the cause to pass"
}

package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/text"
)

// requestError returns err classified and as one short line without the URL. If
// the context ended the request, it returns why.
func requestError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if strings.Contains(err.Error(), "Location header") || strings.Contains(err.Error(), "unsupported protocol scheme") {
		return &RedirectError{"the server redirects to an invalid url"}
	}
	if line := text.Line(err.Error()); line != err.Error() {
		err = &cleanError{line, err}
	}
	return fault.OfCall(err)
}

// cleanError replaces the text of an error.
type cleanError struct {
	line string
	err  error
}

func (e *cleanError) Error() string { return e.line }
func (e *cleanError) Unwrap() error { return e.err }

// StallError means that the server sent nothing for that long.
type StallError time.Duration

func (e StallError) Error() string {
	return fmt.Sprintf("the server sent nothing for %v", time.Duration(e))
}

// FaultClass implements fault.Classified.
func (StallError) FaultClass() fault.Class { return fault.Transient }

// FaultKind implements fault.Classified.
func (StallError) FaultKind() fault.Kind { return fault.Timeout }

// TimeoutError means that a request was not complete after that long.
type TimeoutError time.Duration

func (e TimeoutError) Error() string { return fmt.Sprintf("timed out after %v", time.Duration(e)) }

// FaultClass implements fault.Classified.
func (TimeoutError) FaultClass() fault.Class { return fault.Transient }

// FaultKind implements fault.Classified.
func (TimeoutError) FaultKind() fault.Kind { return fault.Timeout }

// RedirectError is a redirect that is not followed.
type RedirectError struct{ text string }

func (e *RedirectError) Error() string { return e.text }

// Hint is what a person can do.
func (e *RedirectError) Hint() string { return "check the url" }

// FaultClass implements fault.Classified.
func (*RedirectError) FaultClass() fault.Class { return fault.Permanent }

// FaultKind implements fault.Classified.
func (*RedirectError) FaultKind() fault.Kind { return fault.Config }

// TooLargeError is a document that is larger than allowed.
type TooLargeError struct{ limit int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the server sent more than %d bytes", e.limit)
}

// FaultClass implements fault.Classified.
func (*TooLargeError) FaultClass() fault.Class { return fault.Permanent }

// FaultKind implements fault.Classified.
func (*TooLargeError) FaultKind() fault.Kind { return fault.Data }

// StatusError is a response that is not the requested document.
type StatusError struct {
	Code  int
	after time.Duration
}

// NewStatusError returns the error of a response.
func NewStatusError(resp *http.Response) *StatusError {
	e := &StatusError{Code: resp.StatusCode}
	if e.FaultClass() != fault.Permanent {
		e.after = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return e
}

func (e *StatusError) Error() string { return "the server answered " + statusText(e.Code) }

// FaultClass implements fault.Classified.
func (e *StatusError) FaultClass() fault.Class { class, _ := fault.OfStatus(e.Code); return class }

// FaultKind implements fault.Classified.
func (e *StatusError) FaultKind() fault.Kind { _, kind := fault.OfStatus(e.Code); return kind }

// RetryAfter is the pause that the server requested, at most five minutes; 0:
// none.
func (e *StatusError) RetryAfter() time.Duration { return e.after }

// statusText is a status code with its standard text, because the server's own
// may contain anything.
func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// Backoff returns err in the form that backoff.Retry respects: permanent, or with
// the pause that the server requested. The message of err does not change.
func Backoff(err error) error {
	switch after := fault.RetryAfter(err); {
	case err == nil:
		return nil
	case fault.IsPermanent(err):
		return backoff.Permanent(err)
	case after > 0:
		pause := after + rand.N(retrySpread) //nolint:gosec // not a secret
		return &retryAfterError{err, backoff.RetryAfter(int(math.Ceil(pause.Seconds())))}
	}
	return err
}

const (
	// maxRetryAfter bounds the pause that a server requests.
	maxRetryAfter = 5 * time.Minute
	// retrySpread is added at random to a requested pause, so that hosts that
	// were rejected together do not retry together.
	retrySpread = 10 * time.Second
)

type retryAfterError struct {
	error
	after error
}

func (e *retryAfterError) Unwrap() []error { return []error{e.error, e.after} }

// retryAfter is the pause in a Retry-After header: seconds or an HTTP date. It
// is 0 if the header is missing or invalid.
func retryAfter(header string, now time.Time) time.Duration {
	var pause time.Duration
	if seconds, err := strconv.Atoi(header); err == nil {
		pause = time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), maxRetryAfter)
}

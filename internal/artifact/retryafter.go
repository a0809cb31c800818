package artifact

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// maxRetryAfter bounds the pause that a server requests.
	maxRetryAfter = 5 * time.Minute
	// retrySpread is added at random to a requested pause, so that hosts that
	// were rejected together do not retry together.
	retrySpread = 10 * time.Second
)

// WithRetryAfter adds to err the pause that a response requests in Retry-After,
// at most five minutes, in the form that backoff.Retry respects. The message of
// err does not change.
func WithRetryAfter(err error, resp *http.Response) error {
	pause := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	if pause == 0 {
		return err
	}
	pause += rand.N(retrySpread) //nolint:gosec // not a secret
	return &retryAfterError{err, backoff.RetryAfter(int(math.Ceil(pause.Seconds())))}
}

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
		pause = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), maxRetryAfter)
}

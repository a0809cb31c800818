package artifact

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// askedSpread is what the pauses of hosts that were turned away together are
// spread over, so that they do not come back together.
const askedSpread = 10 * time.Second

// WithRetryAfter adds to the error of an answer the pause that it asked for
// (Retry-After, five minutes at most), as backoff.Retry honours it.
func WithRetryAfter(err error, resp *http.Response) error {
	after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	if after == 0 {
		return err
	}
	after += rand.N(askedSpread) //nolint:gosec // a pause is no secret
	return &asked{err, backoff.RetryAfter(int(math.Ceil(after.Seconds())))}
}

// asked reads as the error alone.
type asked struct {
	error
	after error
}

func (a *asked) Unwrap() []error { return []error{a.error, a.after} }

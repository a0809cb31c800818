package artifact

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
)

func TestWithRetryAfter(t *testing.T) {
	cause := errors.New("the server answered 503")
	for header, shortest := range map[string]time.Duration{
		"": 0, "soon": 0, "-3": 0, "0": 0, "7": 7 * time.Second, "86400": maxRetryAfter,
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): maxRetryAfter,
	} {
		err := WithRetryAfter(cause, &http.Response{Header: http.Header{"Retry-After": {header}}})
		var after *backoff.RetryAfterError
		found := errors.As(err, &after)
		if found != (shortest > 0) || !errors.Is(err, cause) || err.Error() != cause.Error() {
			t.Errorf("%q: %v", header, err)
		}
		if found && (after.Duration < shortest || after.Duration > shortest+retrySpread+time.Second) {
			t.Errorf("%q: pause %v, want at least %v", header, after.Duration, shortest)
		}
	}
}

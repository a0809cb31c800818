package artifact

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
)

func TestAskedIsWhatBackoffHonours(t *testing.T) {
	seen := errors.New("the server answered 503")
	for header, least := range map[string]time.Duration{
		"": 0, "soon": 0, "-3": 0, "0": 0, "7": 7 * time.Second, "86400": longestRetryAfter,
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): longestRetryAfter,
	} {
		err := WithRetryAfter(seen, &http.Response{Header: http.Header{"Retry-After": {header}}})
		var after *backoff.RetryAfterError
		found := errors.As(err, &after)
		if found != (least > 0) || !errors.Is(err, seen) || err.Error() != seen.Error() {
			t.Errorf("%q: %v", header, err)
		}
		if found && (after.Duration < least || after.Duration > least+askedSpread+time.Second) {
			t.Errorf("%q: in %v, want %v at least", header, after.Duration, least)
		}
	}
}

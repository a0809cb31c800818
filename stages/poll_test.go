package stages

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errNotYet = errors.New("not yet")

// attemptFailing returns an attempt that fails n times, then succeeds. Each
// call takes a while. count is the number of calls so far.
func attemptFailing(n int, takes time.Duration) (attempt func(context.Context) error, count *int) {
	count = new(int)
	return func(context.Context) error {
		time.Sleep(takes)
		*count++
		if *count > n {
			return nil
		}
		return errNotYet
	}, count
}

func TestPoll(t *testing.T) {
	for _, c := range []struct {
		name     string
		fails    int           // attempts that fail
		takes    time.Duration // one attempt
		limit    time.Duration
		ended    time.Duration // when poll returns
		attempts int
		err      string
	}{
		{"success at once", 0, 0, time.Minute, 0, 1, ""},
		{"success after three failures", 3, 0, time.Minute, firstPollPause + 2*firstPollPause + 4*firstPollPause, 4, ""},
		{"no success", 1000, 0, 1950 * time.Millisecond, 1950 * time.Millisecond, 6, "timed out after 1.95s: not yet"},
		{"pause as long as the attempt", 2, time.Second, time.Minute, 5 * time.Second, 3, ""},
		{"attempt longer than the longest pause", 1, 25 * time.Second, 2 * time.Minute, 25*time.Second + maxPollPause + 25*time.Second, 2, ""},
		{"attempt longer than the limit", 1, 2 * time.Second, time.Second, 2 * time.Second, 1, "timed out after 1s: not yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				attempt, count := attemptFailing(c.fails, c.takes)
				err := (&Env{}).poll(t.Context(), c.limit, attempt)
				if took := time.Since(start); took != c.ended || *count != c.attempts {
					t.Errorf("%d attempts in %v, want %d in %v", *count, took, c.attempts, c.ended)
				}
				if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err || !errors.Is(err, errNotYet)) {
					t.Errorf("got %v, want %q", err, c.err)
				}
			})
		})
	}
}

// TestPollEndsAnAttemptThatHangs: the limit also ends a command whose output never
// ends.
func TestPollEndsAnAttemptThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		start := time.Now()
		err := (&Env{}).poll(ctx, 2*time.Minute, func(ctx context.Context) error {
			<-ctx.Done()
			return errNotYet
		})
		if took := time.Since(start); took != 2*time.Minute || !errors.Is(err, errNotYet) || err.Error() != "timed out after 2m0s: not yet" {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

func TestPollStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the power button")
		time.AfterFunc(1200*time.Millisecond, func() { cancel(cause) })
		start := time.Now()
		attempt, _ := attemptFailing(1000, 0)
		if err := (&Env{}).poll(ctx, time.Hour, attempt); !errors.Is(err, cause) || time.Since(start) != 1200*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func TestPollSleepsWithTheHook(t *testing.T) {
	var slept time.Duration
	env := &Env{Sleep: func(_ context.Context, d time.Duration) error {
		slept += d
		return nil
	}}
	attempt, count := attemptFailing(1000, 0)
	err := env.poll(t.Context(), time.Minute, attempt)
	if !errors.Is(err, errNotYet) || slept > time.Minute || slept < 50*time.Second || *count < 100 {
		t.Errorf("%d attempts, slept %v: %v", *count, slept, err)
	}
}

package stages

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errNotYet = errors.New("not yet") // what a look says

// looks gives errNotYet n times, then nil; each look takes a while.
func looks(n int, takes time.Duration) (look func() error, count *int) {
	count = new(int)
	return func() error {
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
		what  string
		fails int           // looks that fail
		takes time.Duration // one look
		limit time.Duration
		ended time.Duration // when it is over
		looks int
		err   string
	}{
		{"what is there at once", 0, 0, time.Minute, 0, 1, ""},
		{"what comes", 3, 0, time.Minute, 3 * pollEvery, 4, ""},
		{"what never comes", 1000, 0, 1750 * time.Millisecond, 1750 * time.Millisecond, 4, "not within 1.75s: not yet"},
		{"a look of a second", 2, time.Second, time.Minute, 5 * time.Second, 3, ""},
		{"a look that is heavier than any pause", 1, 25 * time.Second, 2 * time.Minute, 25*time.Second + pollMost + 25*time.Second, 2, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				look, count := looks(c.fails, c.takes)
				err := poll(t.Context(), c.limit, look)
				if took := time.Since(start); took != c.ended || *count != c.looks {
					t.Errorf("%d looks in %v, want %d in %v", *count, took, c.looks, c.ended)
				}
				if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err || !errors.Is(err, errNotYet)) {
					t.Errorf("got %v, want %q", err, c.err)
				}
			})
		})
	}
}

func TestPollEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the power button")
		time.AfterFunc(1200*time.Millisecond, func() { cancel(why) })
		start := time.Now()
		look, _ := looks(1000, 0)
		if err := poll(ctx, time.Hour, look); !errors.Is(err, why) || time.Since(start) != 1200*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "one": "one", "a\nb\r\n\n": "b", "calico/node is not ready: felix\n": "calico/node is not ready: felix"} {
		if got := lastLine([]byte(in)); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

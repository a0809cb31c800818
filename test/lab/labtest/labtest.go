// Package labtest gives tests a lab that ends with them, and that says what its
// hosts said when the test failed.
package labtest

import (
	"context"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
)

const (
	// evidenceTime bounds the questions to the hosts after a failure.
	evidenceTime = 5 * time.Minute
	// beforeDeadline is how long before the test binary's own deadline a
	// story ends, so that its hosts can still be asked.
	beforeDeadline = evidenceTime + time.Minute
)

// New makes a lab for a test. After a failure it logs each host's last words
// and its journal, and where all of it is kept.
func New(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Log = t.Logf
	l, err := lab.New(Context(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), evidenceTime)
			defer cancel()
			dir, text := l.Evidence(ctx, t.Name())
			t.Logf("what the hosts say (all of it is kept in %s)\n%s", dir, text)
		}
		if err := l.Close(); err != nil {
			t.Errorf("cannot remove the lab: %v", err)
		}
	})
	return l
}

// Context ends with the test, and early enough before the test binary's
// deadline to tell why.
func Context(t *testing.T) context.Context {
	t.Helper()
	end, ok := t.Deadline()
	if !ok {
		return t.Context()
	}
	ctx, cancel := context.WithDeadline(t.Context(), end.Add(-beforeDeadline))
	t.Cleanup(cancel)
	return ctx
}

// Within is Context with a time limit of its own.
func Within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(Context(t), limit)
	t.Cleanup(cancel)
	return ctx
}

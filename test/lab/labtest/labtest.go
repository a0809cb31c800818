// Package labtest provides labs and assertions for tests. A lab is removed at the
// end of its test. If the test failed, the logs of its hosts are kept.
package labtest

import (
	"context"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
)

const (
	// diagnosticsTimeout limits the collection of logs after a failure.
	diagnosticsTimeout = 5 * time.Minute
	// reserve is the time between the end of Context and the deadline of the
	// test binary. It is needed to collect logs.
	reserve = diagnosticsTimeout + time.Minute
)

// New creates a lab for a test. If the test fails, it logs the end of each host's
// console and firstboot's journal, and the directory with all logs.
func New(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Log = t.Logf
	l, err := lab.New(Context(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), diagnosticsTimeout)
			defer cancel()
			dir, text := l.Diagnostics(ctx, t.Name())
			t.Logf("logs of the hosts (more in %s):\n%s", dir, text)
		}
		if err := l.Close(); err != nil {
			t.Errorf("cannot remove the lab: %v", err)
		}
	})
	return l
}

// Context returns a context that ends with the test, and some minutes before the
// deadline of the test binary, so that logs can be collected.
func Context(t *testing.T) context.Context {
	t.Helper()
	deadline, ok := t.Deadline()
	if !ok {
		return t.Context()
	}
	ctx, cancel := context.WithDeadline(t.Context(), deadline.Add(-reserve))
	t.Cleanup(cancel)
	return ctx
}

// Within returns Context with a timeout.
func Within(t *testing.T, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(Context(t), timeout)
	t.Cleanup(cancel)
	return ctx
}

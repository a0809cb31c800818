package stages

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
)

// The pause between two attempts of poll is first firstPollPause. It doubles up to
// pollPause. An attempt can be expensive: calico-node's health command starts a 70 MB
// program, which takes 6 s on an emulated machine. The pause is therefore at least as
// long as the attempt took, up to maxPollPause, so that the attempts leave the machine
// time for its work.
const (
	firstPollPause = 100 * time.Millisecond
	pollPause      = 500 * time.Millisecond
	maxPollPause   = 10 * time.Second
)

// poll calls attempt until it returns nil. After limit it gives up and returns
// a retryable error that wraps the last one. The context of an attempt ends at the limit,
// so that an attempt that hangs cannot exceed it.
func (e *Env) poll(ctx context.Context, limit time.Duration, attempt func(context.Context) error) error {
	timedOut := fmt.Errorf("timed out after %v", limit)
	limited, cancel := context.WithTimeoutCause(ctx, limit, timedOut)
	defer cancel()
	elapsed, next := time.Duration(0), firstPollPause
	for {
		start := time.Now()
		err := attempt(limited)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		took := time.Since(start)
		elapsed += took
		pause := max(0, min(max(next, took), maxPollPause, limit-elapsed))
		next = min(2*next, pollPause)
		if err := e.sleep(ctx, pause); err != nil {
			return err
		}
		if ctx.Err() != nil { // at the end of the pause
			return context.Cause(ctx)
		}
		if elapsed += pause; elapsed >= limit || limited.Err() != nil {
			return fault.New(fault.Retryable, fault.Timeout, fmt.Errorf("%w: %w", timedOut, err))
		}
	}
}

// sleep waits for d, or until ctx is done; then it returns the cause.
func (e *Env) sleep(ctx context.Context, d time.Duration) error {
	if e.Sleep != nil {
		return e.Sleep(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// fileSize returns a file's size in bytes, 0 if it cannot be read.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

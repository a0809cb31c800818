package stages

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Limits of the pause between two attempts of poll. An attempt can be
// expensive: calico-node's health command starts a 70 MB program, which takes
// 6 s on an emulated machine. The pause is therefore at least as long as the
// attempt took, so that the attempts leave the machine time for its work.
const (
	minPollPause = 500 * time.Millisecond
	maxPollPause = 10 * time.Second
)

// poll calls attempt until it returns nil. After limit it gives up and returns
// an error that wraps the last one.
func (e *Env) poll(ctx context.Context, limit time.Duration, attempt func() error) error {
	var elapsed time.Duration
	for {
		start := time.Now()
		err := attempt()
		if err == nil {
			return nil
		}
		took := time.Since(start)
		elapsed += took
		pause := max(0, min(max(minPollPause, took), maxPollPause, limit-elapsed))
		if err := e.sleep(ctx, pause); err != nil {
			return err
		}
		if elapsed += pause; elapsed >= limit {
			return fmt.Errorf("timed out after %v: %w", limit, err)
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

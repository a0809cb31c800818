package stages

import (
	"context"
	"fmt"
	"os"
	"time"
)

// pollEvery is the shortest pause between two looks at something that this
// machine is about to finish. A look that is heavy itself (calico-node's own
// health command starts a 70 MB program: 6 s on an emulated machine) must not
// starve what it waits for, so the pause is at least as long as the look took,
// up to pollMost.
const (
	pollEvery = 500 * time.Millisecond
	pollMost  = 10 * time.Second
)

// poll looks until look returns nil, and gives its last error after limit.
func poll(ctx context.Context, limit time.Duration, look func() error) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		start := time.Now()
		err := look()
		if err == nil {
			return nil
		}
		pause := time.NewTimer(min(max(pollEvery, time.Since(start)), pollMost))
		select {
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-deadline.C:
			pause.Stop()
			return fmt.Errorf("not within %v: %w", limit, err)
		case <-pause.C:
		}
	}
}

// fileSize is a file's size in bytes, 0 where it cannot be told.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

package stages

import (
	"context"
	"fmt"
	"os"
	"time"
)

// pollEvery is the pause between two looks at something that this machine is
// about to finish.
const pollEvery = 500 * time.Millisecond

// poll looks until look returns nil, and gives its last error after limit.
func poll(ctx context.Context, limit time.Duration, look func() error) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return fmt.Errorf("not within %v: %w", limit, err)
		case <-tick.C:
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

package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockInterval is the time between two attempts to lock. flock(2) itself has no
// deadline.
const lockInterval = 200 * time.Millisecond

func (s Store) lockPath(name, key string) string {
	return filepath.Join(s.Dir, ".lock-"+name+"-"+key)
}

// lock locks an entry. The kernel releases the lock when this process ends. If
// another process holds the lock, lock logs this once and waits until the
// context ends.
func (s Store) lock(ctx context.Context, name, key string) (*os.File, error) {
	path := s.lockPath(name, key)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", name, err)
	}
	tick := time.NewTicker(lockInterval)
	defer tick.Stop()
	for logged := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			writePID(f)
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		if !logged {
			s.logf("%s: waiting for another process that builds it (pid %s)", name, holder(path))
			logged = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("cannot build %s: another process builds it (pid %s): %w", name, holder(path), ctx.Err())
		case <-tick.C:
		}
	}
}

// writePID writes the process ID for the messages of waiting processes. The lock
// works without it, so errors are ignored.
func writePID(f *os.File) {
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
}

func holder(path string) string {
	data, err := os.ReadFile(path)
	if pid := strings.TrimSpace(string(data)); err == nil && pid != "" && len(pid) < 12 {
		return pid
	}
	return "unknown"
}

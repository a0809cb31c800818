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

// lockEvery is how often a held lock is tried again: flock itself cannot be
// given a deadline.
const lockEvery = 200 * time.Millisecond

func (s Store) lockPath(name, key string) string {
	return filepath.Join(s.Dir, ".lock-"+name+"-"+key)
}

// lock takes the lock of an entry, which the kernel drops when this process
// ends, however it ends. While another process holds it, lock says so once,
// and waits until the context ends.
func (s Store) lock(ctx context.Context, name, key string) (*os.File, error) {
	path := s.lockPath(name, key)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", name, err)
	}
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for said := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			writePID(f)
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		if !said {
			s.logf("%s: waiting for another run that builds it (pid %s)", name, holder(path))
			said = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("cannot build %s: another run builds it (pid %s): %w", name, holder(path), ctx.Err())
		case <-tick.C:
		}
	}
}

// writePID names the holder for those who wait. That is a courtesy: the lock
// holds without it.
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
	return "not known"
}

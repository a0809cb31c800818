package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/host"
)

// LockHeldError reports that another run holds the lock.
type LockHeldError struct{ PID int }

func (e *LockHeldError) Error() string {
	return fmt.Sprintf("another run of firstboot holds the lock (pid %d)", e.PID)
}

// Lock prevents two runs at the same time. The kernel releases it when its holder
// ends, in whatever way. The file stays; its existence means nothing.
type Lock struct{ file *os.File }

// AcquireLock takes the lock. If another run holds it, it returns a
// *LockHeldError without waiting.
func AcquireLock(h *host.Host) (*Lock, error) {
	path := h.RealPath(LockPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	if err := lockFile(f, path); err != nil {
		defer f.Close()
		if held(err) {
			return nil, &LockHeldError{PID: readPID(path)}
		}
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	return &Lock{f}, nil
}

// A run that was killed between fork and exec of a command leaves a child that
// holds the lock until its exec. That takes an instant, or longer on a busy
// machine.
const (
	orphanTimeout = 2 * time.Second
	orphanPause   = 20 * time.Millisecond
)

// lockFile locks f without waiting. Only if the process named in the file is dead
// does it wait up to orphanTimeout for that process's child.
func lockFile(f *os.File, path string) error {
	for deadline := time.Now().Add(orphanTimeout); ; time.Sleep(orphanPause) {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, wholeFile())
		if err == nil || !held(err) || time.Now().After(deadline) || alive(readPID(path)) {
			return err
		}
	}
}

func held(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) }

// alive reports whether a process exists. It returns true for pid 0, which a
// holder has not written yet.
func alive(pid int) bool { return pid <= 0 || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release releases the lock, even if a child between fork and exec has the file
// open.
func (l *Lock) Release() error {
	unlock := wholeFile()
	unlock.Type = unix.F_UNLCK
	return errors.Join(unix.FcntlFlock(l.file.Fd(), unix.F_OFD_SETLK, unlock), l.file.Close())
}

// LockHolder returns the pid of the run that holds the lock, and whether there is
// one. It only needs permission to read the file.
func LockHolder(h *host.Host) (pid int, held bool) {
	path := h.RealPath(LockPath)
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	// Query the lock without taking it: a run that starts at this instant must
	// not fail because of a status command.
	query := wholeFile()
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, query)
	return readPID(path), err == nil && query.Type != unix.F_UNLCK
}

// wholeFile returns a write lock on the whole file. With the F_OFD commands it
// belongs to the open file, not to the process, so closing another descriptor
// does not release it.
func wholeFile() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

func readPID(path string) int {
	data, err := os.ReadFile(path)
	if err != nil || len(data) > 32 {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

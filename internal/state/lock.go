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

// HeldError is a lock that another run holds.
type LockHeldError struct{ PID int }

func (e *LockHeldError) Error() string {
	return fmt.Sprintf("another run of firstboot holds the lock (pid %d)", e.PID)
}

// Lock keeps two runs apart. The kernel drops it when its holder ends, however
// it ends; the file stays and means nothing by itself.
type Lock struct{ file *os.File }

// Acquire takes the lock or says at once who holds it (*HeldError).
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

// A run that was killed while it started a command leaves a child that has the
// lock until it becomes that command: an instant, longer on a busy machine.
const (
	orphanTime  = 2 * time.Second
	orphanPause = 20 * time.Millisecond
)

// lockFile locks at once or, where only a dead run's child is in the way, in
// an instant.
func lockFile(f *os.File, path string) error {
	for deadline := time.Now().Add(orphanTime); ; time.Sleep(orphanPause) {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, wholeFile())
		if err == nil || !held(err) || time.Now().After(deadline) || alive(readPID(path)) {
			return err
		}
	}
}

func held(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) }

// alive tells whether a process exists. Without a number (a holder that has
// not written it yet) it does.
func alive(pid int) bool { return pid <= 0 || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release drops the lock, also where a child that is just being started has
// the file open.
func (l *Lock) Release() error {
	unlock := wholeFile()
	unlock.Type = unix.F_UNLCK
	return errors.Join(unix.FcntlFlock(l.file.Fd(), unix.F_OFD_SETLK, unlock), l.file.Close())
}

// Holder returns the pid of the run that holds the lock, and whether there is
// one. It needs no rights beyond reading the file.
func LockHolder(h *host.Host) (pid int, held bool) {
	path := h.RealPath(LockPath)
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	// Asking does not take: a status that looks must not make a run that
	// starts at that instant believe that another one is there.
	asked := wholeFile()
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, asked)
	return readPID(path), err == nil && asked.Type != unix.F_UNLCK
}

// wholeFile is a write lock on the whole file. It belongs to the open file,
// not to the process, so that closing another descriptor does not drop it.
func wholeFile() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

func readPID(path string) int {
	data, err := os.ReadFile(path)
	if err != nil || len(data) > 32 {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

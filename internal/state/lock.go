package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/host"
)

// LockHeldError reports that another command holds the lock.
type LockHeldError struct{ Holder Holder }

func (e *LockHeldError) Error() string {
	switch {
	case e.Holder.PID == 0:
		return "another process holds the lock"
	case e.Holder.Command == CommandRun:
		return fmt.Sprintf("another run of firstboot holds the lock (pid %d)", e.Holder.PID)
	}
	return fmt.Sprintf("firstboot %s holds the lock (pid %d)", e.Holder.Command, e.Holder.PID)
}

// Lock prevents two commands at the same time. The kernel releases it when its
// holder ends, in whatever way. The file stays; its existence means nothing.
type Lock struct {
	file   *os.File
	holder string // real path of HolderPath
}

// AcquireLock takes the lock for a command. If another one holds it, it returns a
// *LockHeldError without waiting.
func AcquireLock(h *host.Host, command string) (*Lock, error) {
	path := h.RealPath(LockPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOFOLLOW, lockMode)
	if err != nil {
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	// An earlier version created the file with mode 0644, with which every user
	// can hold a read lock.
	if err := f.Chmod(lockMode); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	l := &Lock{f, h.RealPath(HolderPath)}
	if err := l.lock(); err != nil {
		defer f.Close()
		if held(err) {
			holder, _ := readHolder(l.holder)
			return nil, &LockHeldError{holder}
		}
		return nil, fmt.Errorf("cannot take the lock: %w", err)
	}
	if err := writeHolder(l.holder, command); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot take the lock: %w", err), l.Release())
	}
	return l, nil
}

const lockMode fs.FileMode = 0o600

// A command that was killed between fork and exec of a child leaves a child that
// holds the lock until its exec. That takes an instant, or longer on a busy
// machine.
const (
	orphanTimeout = 2 * time.Second
	orphanPause   = 20 * time.Millisecond
)

// lock locks the file without waiting. Only if no living command is recorded as
// the holder does it wait up to orphanTimeout for the child of a killed one.
func (l *Lock) lock() error {
	for deadline := time.Now().Add(orphanTimeout); ; time.Sleep(orphanPause) {
		err := unix.FcntlFlock(l.file.Fd(), unix.F_OFD_SETLK, wholeFile())
		if err == nil || !held(err) || time.Now().After(deadline) {
			return err
		}
		if _, alive := readHolder(l.holder); alive {
			return err
		}
	}
}

func held(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) }

// Release releases the lock, even if a child between fork and exec has the file
// open. A second call does nothing: another command may hold the lock by then.
func (l *Lock) Release() error {
	if l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	_ = os.Remove(l.holder) // the lock decides; a leftover names a process that no longer exists
	unlock := wholeFile()
	unlock.Type = unix.F_UNLCK
	return errors.Join(unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, unlock), file.Close())
}

// LockHolder returns the command that holds the lock, and whether there is one. A
// lock that another process holds does not count, and neither does the record of
// a command that no longer exists. Without permission to query the lock, the
// record of a living command suffices: only root can write it.
func LockHolder(h *host.Host) (Holder, bool) {
	holder, alive := readHolder(h.RealPath(HolderPath))
	if !alive {
		return Holder{}, false
	}
	f, err := os.OpenFile(h.RealPath(LockPath), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return holder, true
	}
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	// Query the lock without taking it: a run that starts at this instant must
	// not fail because of a status command.
	query := wholeFile()
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, query)
	return holder, err == nil && query.Type != unix.F_UNLCK
}

// wholeFile returns a write lock on the whole file. With the F_OFD commands it
// belongs to the open file, not to the process, so closing another descriptor
// does not release it.
func wholeFile() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

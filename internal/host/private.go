package host

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// StateDir is the directory for firstboot's own records. Only its owner may
// access it, whichever command creates it.
const StateDir = "/var/lib/firstboot"

// privateMode is the mode of StateDir.
const privateMode fs.FileMode = 0o700

// dirMode returns the mode of a directory that is created.
func dirMode(dir string) fs.FileMode {
	if dir == StateDir {
		return privateMode
	}
	return 0o755
}

// ProtectStateDir removes the access that others have to an existing StateDir.
// Earlier versions created it with mode 0755.
func (h *Host) ProtectStateDir() error {
	dir, err := h.open(StateDir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", StateDir, err)
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err == nil && info.Mode().Perm() != privateMode {
		h.step("chmod", StateDir)
		err = h.chmod(dir, realPath(dir), privateMode)
	}
	if err != nil {
		return fmt.Errorf("cannot set mode %#o of %s: %w", privateMode, StateDir, withoutPath(err))
	}
	return nil
}

// stateLockTimeout bounds the wait for another process that has locked StateDir.
// Each holds the lock while it reads or writes one small file.
const (
	stateLockTimeout = 10 * time.Second
	stateLockPause   = 5 * time.Millisecond
)

// WithStateDirLocked calls do while no other caller does, in this or another
// process. It creates StateDir if it is missing.
func (h *Host) WithStateDirLocked(do func() error) error {
	if err := h.MkdirAll(StateDir); err != nil {
		return err
	}
	dir, err := h.open(StateDir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("cannot lock %s: %w", StateDir, err)
	}
	defer dir.Close() // also releases the lock
	for deadline := time.Now().Add(stateLockTimeout); ; time.Sleep(stateLockPause) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return do()
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("cannot lock %s: %w", StateDir, err)
		case time.Now().After(deadline):
			return fmt.Errorf("cannot lock %s: timed out after %v", StateDir, stateLockTimeout)
		}
	}
}

package labnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namesDir is the directory of named network namespaces. Like ip-netns(8), this
// package creates a file for each name and mounts the namespace on it.
const namesDir = "/run/netns"

// newNamespace creates a named network namespace and moves the calling thread
// into it. It replaces a namespace of that name that no process uses.
func newNamespace(name string) (netns.NsHandle, error) {
	if err := os.MkdirAll(namesDir, 0o755); err != nil {
		return netns.None(), err
	}
	dir, err := lockNames()
	if err != nil {
		return netns.None(), err
	}
	defer dir.Close()
	if err := shareNames(); err != nil {
		return netns.None(), err
	}
	switch used, err := inUse(name); {
	case err != nil:
		return netns.None(), err
	case used:
		return netns.None(), errors.New("it exists and is in use")
	}
	if err := unlinkName(dir, name); err != nil {
		return netns.None(), err
	}
	return netns.NewNamed(name)
}

// Remove removes a network namespace by its name. It is not an error if the
// namespace does not exist.
func Remove(namespace string) error {
	dir, err := lockNames()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove the network namespace %s: %w", namespace, err)
	}
	defer dir.Close()
	if err := unlinkName(dir, namespace); err != nil {
		return fmt.Errorf("cannot remove the network namespace %s: %w", namespace, err)
	}
	return nil
}

// lockNames locks namesDir until the returned file is closed. `ip netns add`
// takes the same lock while it prepares the directory.
func lockNames() (*os.File, error) {
	dir, err := os.Open(namesDir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", namesDir, err), dir.Close())
	}
	return dir, nil
}

// shareNames makes namesDir a shared mount, as the first `ip netns add` on a
// machine does. If that command came later, it would mount namesDir over itself
// and hide the mounts in it: their names could no longer be removed.
func shareNames() error {
	share := func() error { return unix.Mount("", namesDir, "", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if errors.Is(err, unix.EINVAL) { // not a mount point
		if err = unix.Mount(namesDir, namesDir, "", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make %s a shared mount: %w", namesDir, err)
	}
	return nil
}

// inUse reports whether a thread of any process is in the named namespace.
func inUse(name string) (bool, error) {
	want, err := os.Stat(filepath.Join(namesDir, name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	threads, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		if got, err := os.Stat(thread); err == nil && os.SameFile(want, got) { // an error: it has ended
			return true, nil
		}
	}
	return false, nil
}

// unlinkName removes the file of a name if it exists. A file cannot be removed
// while something is mounted on it in the mount namespace of the caller, and a
// mount over namesDir can hide such mounts. So unlinkName removes the file in a
// private mount namespace without these mounts. The kernel then detaches the
// mounts on the file in all other mount namespaces.
func unlinkName(dir *os.File, name string) error {
	if name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("invalid name %q", name)
	}
	result := make(chan error, 1)
	go func() {
		// The thread stays locked, so it ends here, and its mount namespace
		// with it.
		runtime.LockOSThread()
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			for more := true; more; more = unix.Unmount(namesDir, unix.MNT_DETACH) == nil {
				for unix.Unmount(filepath.Join(namesDir, name), unix.MNT_DETACH) == nil {
				}
			}
			err := unix.Unlinkat(int(dir.Fd()), name, 0)
			if errors.Is(err, syscall.ENOENT) {
				return nil
			}
			return err
		}()
	}()
	return <-result
}

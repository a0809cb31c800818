package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// errNotRegular means that a path leads to a FIFO, a device, a socket or a
// directory, although a file was expected.
var errNotRegular = errors.New("not a regular file")

// open opens an absolute path of the machine. Under another root, symbolic links
// are resolved inside that root, by the kernel and therefore without a race: an
// absolute link of an image must not lead to this machine's files.
func (h *Host) open(path string, flags int, mode fs.FileMode) (*os.File, error) {
	path = filepath.Clean("/" + path)
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NOCTTY
	}
	fd, err := retry(func() (int, error) {
		if h.Live() {
			return unix.Open(path, flags, uint32(mode.Perm()))
		}
		return openIn(h.root, path, flags, mode)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil //nolint:gosec // a descriptor is not negative
}

// retry repeats a system call that a signal or a concurrent rename interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for attempt := 0; ; attempt++ {
		result, err := call()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) || attempt == 100 {
			return result, err
		}
	}
}

// openIn opens path below the directory root. Linux before 5.6, and containers
// with an old filter of system calls, have no openat2; then the path is resolved
// first, and a link that replaces one of its parts in between is not detected.
func openIn(root, path string, flags int, mode fs.FileMode) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	how := &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS} //nolint:gosec // flags are not negative
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode.Perm())
	}
	fd, err := unix.Openat2(dir, "./"+path, how)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fd, err
	}
	return openResolved(root, path, flags, mode)
}

func openResolved(root, path string, flags int, mode fs.FileMode) (int, error) {
	target, err := securejoin.SecureJoin(root, path)
	if err != nil {
		return -1, err
	}
	return unix.Open(target, flags|unix.O_NOFOLLOW, uint32(mode.Perm()))
}

// openRegular opens a regular file. Opening a FIFO or a device does not wait.
func (h *Host) openRegular(path string, flags int, mode fs.FileMode) (*os.File, error) {
	f, err := h.open(path, flags|unix.O_NONBLOCK, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// entry is a name in an open directory. Operations on it never follow a symbolic
// link.
type entry struct {
	dir  *os.File
	name string
	path string // of this process, for the recorder; "" if nothing is recorded
}

// entry opens the directory of path for flags: O_PATH to examine the name, O_RDONLY
// to change it and to sync the directory.
func (h *Host) entry(path string, flags int) (entry, error) {
	path = filepath.Clean("/" + path)
	dir, err := h.open(filepath.Dir(path), flags|unix.O_DIRECTORY, 0)
	if err != nil {
		return entry{}, err
	}
	e := entry{dir: dir, name: filepath.Base(path)}
	if path == "/" {
		e.name = "."
	}
	if h.recorded != nil {
		e.path = filepath.Join(realPath(dir), e.name)
	}
	return e, nil
}

func (e entry) fd() int { return int(e.dir.Fd()) }

func (e entry) close() { _ = e.dir.Close() }

// sibling is another name in the same directory.
func (e entry) sibling(name string) entry {
	s := entry{dir: e.dir, name: name}
	if e.path != "" {
		s.path = filepath.Join(filepath.Dir(e.path), name)
	}
	return s
}

// mode returns the file type and permissions of the entry.
func (e entry) mode() (fs.FileMode, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(e.fd(), e.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	mode := fs.FileMode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return mode, nil
}

// readlink returns the target of a symbolic link, or "" if the entry is not one.
func (e entry) readlink() string {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(e.fd(), e.name, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// realPath is the path of an open directory.
func realPath(dir *os.File) string {
	path, err := os.Readlink("/proc/self/fd/" + itoa(int(dir.Fd())))
	if err != nil {
		return dir.Name()
	}
	return strings.TrimSuffix(path, " (deleted)")
}

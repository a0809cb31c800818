package host

import (
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// FileOp is one change to a file system. A sequence of them shows what a power
// cut may leave behind (test/powercut).
type FileOp struct {
	Kind FileOpKind
	Path string      // of this process, without symbolic links
	To   string      // Rename: the new path; Symlink: the target
	Data []byte      // Write: appended to the file
	Mode fs.FileMode // Create, Chmod, Mkdir
}

// FileOpKind is the kind of a FileOp.
type FileOpKind string

// The kinds.
const (
	OpCreate   FileOpKind = "create" // an empty file, or an existing one is emptied
	OpWrite    FileOpKind = "write"
	OpChmod    FileOpKind = "chmod"
	OpSyncFile FileOpKind = "sync"
	OpSyncDir  FileOpKind = "syncdir"
	OpRename   FileOpKind = "rename"
	OpRemove   FileOpKind = "remove"
	OpMkdir    FileOpKind = "mkdir"
	OpSymlink  FileOpKind = "symlink"
)

// WithFileOps calls record after every change to a file system, and after every
// sync of a file or directory, in their order.
func WithFileOps(record func(FileOp)) Option { return func(h *Host) { h.recorded = record } }

// did records a change that was made.
func (h *Host) did(op FileOp, err error) error {
	if err == nil && h.recorded != nil {
		h.recorded(op)
	}
	return err
}

// The following functions are the only ones that change files below the root.

// create creates the entry as an empty file that only its owner may access. It
// must not exist.
func (h *Host) create(e entry) (*os.File, error) {
	const mode = 0o600
	fd, err := retry(func() (int, error) {
		return unix.Openat(e.fd(), e.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	})
	if h.did(FileOp{Kind: OpCreate, Path: e.path, Mode: mode}, err) != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), e.name), nil //nolint:gosec // a descriptor is not negative
}

// recordedWriter writes to a file and records what it writes.
type recordedWriter struct {
	h    *Host
	file *os.File
	path string
}

func (w recordedWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if n > 0 && w.h.recorded != nil {
		w.h.recorded(FileOp{Kind: OpWrite, Path: w.path, Data: append([]byte(nil), p[:n]...)})
	}
	return n, err
}

// chmod sets the mode of an open file or directory, whatever the umask.
func (h *Host) chmod(f *os.File, path string, mode fs.FileMode) error {
	return h.did(FileOp{Kind: OpChmod, Path: path, Mode: mode.Perm()}, f.Chmod(mode.Perm()))
}

// syncFile makes the content of an open file durable, not its name.
func (h *Host) syncFile(f *os.File, path string) error {
	return h.did(FileOp{Kind: OpSyncFile, Path: path}, f.Sync())
}

// syncDir makes created, renamed and removed names in the entry's directory
// durable.
func (h *Host) syncDir(e entry) error {
	op := FileOp{Kind: OpSyncDir}
	if h.recorded != nil {
		op.Path = realPath(e.dir)
	}
	return h.did(op, e.dir.Sync())
}

func (h *Host) rename(from, to entry) error {
	_, err := retry(func() (int, error) { return 0, unix.Renameat(from.fd(), from.name, to.fd(), to.name) })
	return h.did(FileOp{Kind: OpRename, Path: from.path, To: to.path}, err)
}

// mkdir creates a directory with that mode, whatever the umask.
func (h *Host) mkdir(e entry, mode fs.FileMode) error {
	err := h.did(FileOp{Kind: OpMkdir, Path: e.path, Mode: mode}, unix.Mkdirat(e.fd(), e.name, uint32(mode)))
	if err != nil {
		return err
	}
	return h.did(FileOp{Kind: OpChmod, Path: e.path, Mode: mode}, unix.Fchmodat(e.fd(), e.name, uint32(mode), 0))
}

func (h *Host) symlink(target string, e entry) error {
	return h.did(FileOp{Kind: OpSymlink, Path: e.path, To: target}, unix.Symlinkat(target, e.fd(), e.name))
}

// unlink removes a file, a link or an empty directory.
func (h *Host) unlink(e entry) error {
	err := unix.Unlinkat(e.fd(), e.name, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		err = unix.Unlinkat(e.fd(), e.name, unix.AT_REMOVEDIR)
	}
	return h.did(FileOp{Kind: OpRemove, Path: e.path}, err)
}

func itoa(n int) string { return strconv.Itoa(n) }

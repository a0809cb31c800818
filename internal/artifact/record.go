package artifact

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/projecteru2/firstboot/internal/host"
)

// recorder is called after each change of the cache, in their order. It may be nil.
type recorder func(host.FileOp)

// did records a change that was made.
func (r recorder) did(op host.FileOp, err error) error {
	if err == nil && r != nil {
		r(op)
	}
	return err
}

// create creates an empty file that only its owner may access. It must not exist.
func (r recorder) create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, privateMode)
	return f, r.did(host.FileOp{Kind: host.OpCreate, Path: path, Mode: privateMode}, err)
}

// privateMode is the mode of files in the cache.
const privateMode = 0o600

// write appends data to a file.
func (r recorder) write(f *os.File, data []byte) (int, error) {
	n, err := f.Write(data)
	if n > 0 && r != nil {
		r(host.FileOp{Kind: host.OpWrite, Path: f.Name(), Data: bytes.Clone(data[:n])})
	}
	return n, err
}

// empty removes the content of a file.
func (r recorder) empty(f *os.File) error {
	return r.did(host.FileOp{Kind: host.OpCreate, Path: f.Name()}, f.Truncate(0))
}

// sync makes the content of a file durable, not its name.
func (r recorder) sync(f *os.File) error {
	return r.did(host.FileOp{Kind: host.OpSyncFile, Path: f.Name()}, f.Sync())
}

func (r recorder) rename(from, to string) error {
	return r.did(host.FileOp{Kind: host.OpRename, Path: from, To: to}, os.Rename(from, to))
}

// remove removes a file, if it exists.
func (r recorder) remove(path string) error {
	err := r.did(host.FileOp{Kind: host.OpRemove, Path: path}, os.Remove(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncDir makes created, renamed and removed names in a directory durable.
func (r recorder) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return r.did(host.FileOp{Kind: host.OpSyncDir, Path: filepath.Clean(dir)}, d.Sync())
}

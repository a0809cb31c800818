package pxe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Result lists what Write did, as paths below the directory.
type Result struct {
	Written   []string `json:"written"`
	Unchanged []string `json:"same"`
	Removed   []string `json:"removed"` // of hosts that are no longer in the list
}

// mode returns the file's mode. The web server runs as another user; it reads secrets
// through the file's group.
func (f File) mode() fs.FileMode {
	if f.Secret {
		return 0o640
	}
	return 0o644
}

// newSuffix ends the name of a file that is being written. A power cut leaves it, and
// the next write replaces it.
const newSuffix = ".firstboot-new"

// Write writes the files to the directory, each atomically, and removes the files of
// hosts that are no longer in the list. Previous configurations stay, for hosts that
// are booting. All new files are synced at once, since a sync of each takes half a
// minute for 1,000 hosts.
func Write(dir string, files []File) (Result, error) { return write(dir, files, syncDisk) }

func write(dir string, files []File, sync func(dir string) error) (Result, error) {
	result := Result{Written: []string{}, Unchanged: []string{}, Removed: []string{}}
	var changed []File
	defer func() { removeNew(dir, changed[len(result.Written):]) }() // after an error, such as a full disk
	for _, f := range files {
		if f.isWritten(dir) {
			result.Unchanged = append(result.Unchanged, f.Path)
			continue
		}
		changed = append(changed, f)
		if err := writeNew(filepath.Join(dir, f.Path), f); err != nil {
			return result, err
		}
	}
	stale, err := staleFiles(dir, files)
	if err != nil || len(changed)+len(stale) == 0 {
		return result, err
	}
	if err := sync(dir); err != nil { // before the renames: no name leads to an incomplete file
		return result, err
	}
	for _, f := range changed {
		path := filepath.Join(dir, f.Path)
		if err := os.Rename(path+newSuffix, path); err != nil {
			return result, fmt.Errorf("cannot write %s: %w", path, cause(err))
		}
		result.Written = append(result.Written, f.Path)
	}
	for _, path := range stale {
		if err := os.Remove(filepath.Join(dir, path)); err != nil {
			return result, fmt.Errorf("cannot remove %s: %w", filepath.Join(dir, path), cause(err))
		}
		result.Removed = append(result.Removed, path)
	}
	return result, sync(dir)
}

// removeNew removes the files that were written but did not get their names.
func removeNew(dir string, files []File) {
	for _, f := range files {
		_ = os.Remove(filepath.Join(dir, f.Path) + newSuffix) // the caller reports the first error
	}
}

// isWritten reports whether the directory has the file, with its mode.
func (f File) isWritten(dir string) bool {
	path := filepath.Join(dir, f.Path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != f.mode() || info.Size() != int64(len(f.Data)) {
		return false
	}
	have, err := os.ReadFile(path)
	return err == nil && bytes.Equal(have, f.Data)
}

// writeNew writes a file next to its path.
func writeNew(path string, f File) error {
	fail := func(err error) error { return fmt.Errorf("cannot write %s: %w", path, cause(err)) }
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	if err := os.Remove(path + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	out, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fail(err)
	}
	_, err = out.Write(f.Data)
	if err := errors.Join(err, out.Chmod(f.mode()), out.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// syncDisk makes everything written to the directory's file system durable.
func syncDisk(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot sync %s: %w", dir, cause(err))
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil { //nolint:gosec // descriptors are small
		return fmt.Errorf("cannot sync %s: %w", dir, err)
	}
	return nil
}

// staleFiles returns the files of hosts that were in an earlier list.
func staleFiles(dir string, files []File) ([]string, error) {
	known := map[string]bool{}
	for _, f := range files {
		known[f.Path] = true
	}
	var stale []string
	for _, subdir := range []string{"hosts", "matchbox/groups", "matchbox/profiles", "matchbox/ignition"} {
		entries, err := os.ReadDir(filepath.Join(dir, subdir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, subdir), cause(err))
		}
		for _, e := range entries {
			path := subdir + "/" + e.Name()
			if strings.HasPrefix(e.Name(), prefix) && !known[path] && !known[strings.TrimSuffix(path, newSuffix)] {
				stale = append(stale, path)
			}
		}
	}
	return stale, nil
}

// cause removes the operation and the path from an error: the message names both.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}

package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// write writes a file atomically and durably. from writes its content.
func (h *Host) write(path string, from func(io.Writer) error, mode fs.FileMode) error {
	if err := h.makeParents(path); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := h.replace(path, from, mode); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	return nil
}

// replace replaces a file in an existing directory.
func (h *Host) replace(path string, from func(io.Writer) error, mode fs.FileMode) error {
	h.step("write", path)
	e, err := h.entry(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer e.close()
	h.removeLeftovers(e)
	temporary := e.sibling(temporaryName(e.name))
	digest, err := h.writeTemporary(temporary, from, mode)
	if err == nil {
		// Recorded before the rename: a reset would never remove a file that is
		// not in the manifest, while an entry without a file does no harm.
		h.manifest.Record(path, digest)
		h.step("rename", path)
		err = h.rename(temporary, e)
	}
	if err != nil {
		_ = h.unlink(temporary) // it may not exist
		return err
	}
	h.step("sync", filepath.Dir(path))
	return h.syncDir(e)
}

// writeTemporary writes and syncs a new file. It returns the content's sha256.
func (h *Host) writeTemporary(e entry, from func(io.Writer) error, mode fs.FileMode) (string, error) {
	f, err := h.create(e)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest, to := sha256.New(), io.Writer(recordedWriter{h, f, e.path})
	if h.manifest != (noManifest{}) { // otherwise nobody needs the digest
		to = io.MultiWriter(to, digest)
	}
	if err := from(to); err != nil {
		return "", err
	}
	if err := h.chmod(f, e.path, mode); err != nil {
		return "", err
	}
	if err := h.syncFile(f, e.path); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), f.Close()
}

// temporaryName returns the name of a temporary file or link that replaces name.
func temporaryName(name string) string {
	return "." + name + strconv.FormatUint(1e18+rand.Uint64N(8e18), 10) //nolint:gosec // not a secret
}

// temporarySuffix matches what temporaryName adds.
var temporarySuffix = regexp.MustCompile(`^[0-9]{6,19}$`)

// removeLeftovers removes the temporary files of interrupted writes of an entry:
// they may be large, or hold a secret. A failure to remove one is ignored.
func (h *Host) removeLeftovers(e entry) {
	names, err := e.dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		suffix, ok := strings.CutPrefix(name, "."+e.name)
		if !ok || !temporarySuffix.MatchString(suffix) {
			continue
		}
		leftover := e.sibling(name)
		if mode, err := leftover.mode(); err == nil && (mode.IsRegular() || mode.Type() == fs.ModeSymlink) {
			_ = h.unlink(leftover)
		}
	}
}

// Overwrite replaces a file's content in place, durably. The file keeps its
// owner, mode and labels, and may be a mount point; a new one gets the mode 0644.
// Overwrite is not atomic: a power cut can leave the file empty or truncated.
func (h *Host) Overwrite(path string, data []byte) error {
	h.step("write", path)
	if err := h.overwrite(path, data); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	return nil
}

func (h *Host) overwrite(path string, data []byte) error {
	f, err := h.openRegular(path, unix.O_WRONLY|unix.O_TRUNC, 0)
	created := errors.Is(err, fs.ErrNotExist)
	if created {
		f, err = h.openRegular(path, unix.O_WRONLY|unix.O_CREAT, 0o644)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	real := ""
	if h.recorded != nil {
		real = realPath(f)
	}
	_ = h.did(FileOp{Kind: OpCreate, Path: real, Mode: 0o644}, nil)
	if created {
		if err := h.chmod(f, real, 0o644); err != nil {
			return err
		}
	}
	if _, err := (recordedWriter{h, f, real}).Write(data); err != nil {
		return err
	}
	if err := h.syncFile(f, real); err != nil || !created {
		return err
	}
	e, err := h.entry(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer e.close()
	return h.syncDir(e)
}

// MkdirAll creates a directory and its parents (0755, StateDir 0700), durably.
func (h *Host) MkdirAll(path string) error {
	dir := filepath.Clean("/" + path)
	if err := h.mkdirs(dir, dirMode(dir)); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, withoutPath(err))
	}
	return nil
}

// makeParents creates the directory in which path is.
func (h *Host) makeParents(path string) error {
	dir := filepath.Dir(filepath.Clean("/" + path))
	return h.mkdirs(dir, dirMode(dir))
}

// mkdirs creates the missing directories and syncs the parent of each. mode is
// that of the last one.
func (h *Host) mkdirs(dir string, mode fs.FileMode) error {
	d, err := h.open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	switch {
	case err == nil:
		return d.Close()
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s is not a directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case dir == "/" && h.Live():
		return err
	case dir == "/": // the root directory itself is missing
		return New("/", WithFileOps(h.recorded)).mkdirs(h.root, 0o755)
	}
	if target := h.Readlink(dir); target != "" { // to a directory that does not exist
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(dir), target)
		}
		return h.mkdirs(filepath.Clean(target), mode)
	}
	if err := h.makeParents(dir); err != nil {
		return err
	}
	e, err := h.entry(dir, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer e.close()
	h.step("mkdir", dir)
	if err := h.mkdir(e, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return h.syncDir(e)
}

// Remove removes a file or an empty directory, if it exists, durably.
func (h *Host) Remove(path string) error {
	h.step("remove", path)
	err := h.inDirectory(path, h.unlink)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	h.manifest.Record(path, "")
	return nil
}

// RemoveAll removes a directory and everything in it, durably. It does not follow
// symbolic links.
func (h *Host) RemoveAll(path string) error {
	h.step("remove", path)
	err := h.inDirectory(path, h.removeTree)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", path, withoutPath(err))
	}
	h.manifest.Record(path, "")
	return nil
}

// inDirectory changes the entry path and syncs its directory.
func (h *Host) inDirectory(path string, change func(entry) error) error {
	e, err := h.entry(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer e.close()
	if err := change(e); err != nil {
		return err
	}
	return h.syncDir(e)
}

// removeTree removes an entry and everything below it.
func (h *Host) removeTree(e entry) error {
	mode, err := e.mode()
	if err != nil {
		return err
	}
	if mode.IsDir() {
		if err := h.removeContent(e); err != nil {
			return err
		}
	}
	return h.unlink(e)
}

func (h *Host) removeContent(e entry) error {
	fd, err := unix.Openat(e.fd(), e.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), e.name) //nolint:gosec // a descriptor is not negative
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		child := entry{dir: dir, name: name}
		if e.path != "" {
			child.path = filepath.Join(e.path, name)
		}
		if err := h.removeTree(child); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// Rename moves a file within one file system, durably.
func (h *Host) Rename(from, to string) error {
	h.step("rename", to)
	err := h.inDirectory(from, func(source entry) error {
		return h.inDirectory(to, func(target entry) error { return h.rename(source, target) })
	})
	if err != nil {
		return fmt.Errorf("cannot rename %s: %w", from, err)
	}
	return nil
}

// Symlink makes path a symbolic link to target. It replaces an existing file or
// link.
func (h *Host) Symlink(target, path string) error {
	if h.Readlink(path) == target {
		return nil
	}
	if err := h.makeParents(path); err != nil {
		return fmt.Errorf("cannot link %s: %w", path, err)
	}
	h.manifest.Record(path, "link:"+target)
	h.step("link", path)
	err := h.inDirectory(path, func(e entry) error {
		h.removeLeftovers(e)
		temporary := e.sibling(temporaryName(e.name))
		if err := h.symlink(target, temporary); err != nil {
			return err
		}
		if err := h.rename(temporary, e); err != nil {
			return errors.Join(err, h.unlink(temporary))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot link %s: %w", path, withoutPath(err))
	}
	return nil
}

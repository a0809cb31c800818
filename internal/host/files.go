package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"
)

// maxFile bounds what ReadFile reads, in bytes. Configuration and state files
// have a few KiB.
const maxFile = 4 << 20

// ReadFile reads a file of at most 4 MiB. If the file does not exist, the error
// wraps fs.ErrNotExist.
func (h *Host) ReadFile(path string) ([]byte, error) {
	f, err := os.Open(h.resolve(path))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, withoutPath(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, withoutPath(err))
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("cannot read %s: larger than %d bytes", path, maxFile)
	}
	return data, nil
}

// Exists reports whether path exists. It does not follow symbolic links.
func (h *Host) Exists(path string) bool {
	_, err := os.Lstat(h.path(path))
	return err == nil
}

// Stat describes path. It follows symbolic links.
func (h *Host) Stat(path string) (fs.FileInfo, error) {
	info, err := os.Stat(h.resolve(path))
	if err != nil {
		return nil, fmt.Errorf("cannot stat %s: %w", path, withoutPath(err))
	}
	return info, nil
}

// ReadDir lists the names in a directory, sorted. A directory that does not
// exist has none.
func (h *Host) ReadDir(path string) ([]string, error) {
	entries, err := os.ReadDir(h.resolve(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", path, withoutPath(err))
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// WriteFile writes a file atomically and durably: it writes and syncs a
// temporary file in the same directory, renames it and syncs the directory,
// because a power cut can undo a rename that is not synced. Missing directories
// are created (0755).
func (h *Host) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return h.write(path, bytes.NewReader(data), mode)
}

// Overwrite replaces a file's content in place, durably. The file keeps its
// owner, mode and labels, and may be a mount point. Overwrite is not atomic: a
// power cut can leave the file empty or truncated.
func (h *Host) Overwrite(path string, data []byte) error {
	h.step("write", path)
	f, err := os.OpenFile(h.resolve(path), os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	return nil
}

// InstallFile copies the file source (a path of this process) to path, as
// WriteFile does.
func (h *Host) InstallFile(source, path string, mode fs.FileMode) error {
	f, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	defer f.Close()
	return h.write(path, f, mode)
}

// InstallProgram installs an executable (0755) after testing it: it copies
// source to a temporary file in the directory of path, calls check with its
// path, and renames it to path only if check returns nil.
func (h *Host) InstallProgram(source, path string, check func(path string) error) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".firstboot")
	if err := h.InstallFile(source, temporary, 0o755); err != nil {
		return err
	}
	if err := check(temporary); err != nil {
		return errors.Join(err, h.Remove(temporary))
	}
	digest, err := h.SHA256(temporary)
	if err != nil {
		return err
	}
	// Recorded before the rename, as in write.
	h.record(path, digest)
	h.record(temporary, "")
	return h.Rename(temporary, path)
}

func (h *Host) write(path string, from io.Reader, mode fs.FileMode) error {
	target := h.path(path)
	if err := h.mkdirs(filepath.Dir(target)); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	h.step("write", path)
	removeLeftovers(target)
	pending, err := renameio.NewPendingFile(target,
		renameio.WithTempDir(filepath.Dir(target)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	defer pending.Cleanup()
	digest := sha256.New()
	if _, err := io.Copy(io.MultiWriter(pending, digest), from); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	// Recorded before the rename: a reset would never remove a file that is
	// not in the manifest, while an entry without a file does no harm.
	h.record(path, hex.EncodeToString(digest.Sum(nil)))
	h.step("rename", path)
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	h.step("sync", filepath.Dir(path))
	if err := syncDir(filepath.Dir(target)); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, withoutPath(err))
	}
	return nil
}

// temporarySuffix is the suffix of renameio's temporary files: a random 63-bit
// number.
var temporarySuffix = regexp.MustCompile(`^[0-9]{6,19}$`)

// removeLeftovers removes the temporary files of interrupted writes of target:
// they may be large, or hold a secret. A failure to remove one is ignored.
func removeLeftovers(target string) {
	dir, prefix := filepath.Dir(target), "."+filepath.Base(target)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if suffix, ok := strings.CutPrefix(e.Name(), prefix); ok && e.Type().IsRegular() && temporarySuffix.MatchString(suffix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// MkdirAll creates a directory and its parents (0755), durably.
func (h *Host) MkdirAll(path string) error {
	if err := h.mkdirs(h.path(path)); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, withoutPath(err))
	}
	return nil
}

// mkdirs creates the missing directories and syncs the parent of each.
func (h *Host) mkdirs(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if err := h.mkdirs(parent); err != nil {
		return err
	}
	h.step("mkdir", dir)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// Remove removes a file or an empty directory, if it exists, durably.
func (h *Host) Remove(path string) error {
	h.step("remove", path)
	err := os.Remove(h.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, withoutPath(err))
	}
	h.record(path, "")
	return syncDir(filepath.Dir(h.path(path)))
}

// RemoveAll removes a directory and everything in it.
func (h *Host) RemoveAll(path string) error {
	h.step("remove", path)
	if err := os.RemoveAll(h.path(path)); err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, withoutPath(err))
	}
	h.record(path, "")
	return nil
}

// Rename moves a file within one file system, durably.
func (h *Host) Rename(from, to string) error {
	h.step("rename", to)
	if err := os.Rename(h.path(from), h.path(to)); err != nil {
		return fmt.Errorf("cannot rename %s: %w", from, withoutPath(err))
	}
	if err := syncDir(filepath.Dir(h.path(from))); err != nil {
		return err
	}
	return syncDir(filepath.Dir(h.path(to)))
}

// Symlink makes path a symbolic link to target. It replaces an existing file or
// link.
func (h *Host) Symlink(target, path string) error {
	if current, err := os.Readlink(h.path(path)); err == nil && current == target {
		return nil
	}
	if err := h.mkdirs(filepath.Dir(h.path(path))); err != nil {
		return fmt.Errorf("cannot link %s: %w", path, withoutPath(err))
	}
	h.record(path, "link:"+target)
	h.step("link", path)
	if err := renameio.Symlink(target, h.path(path)); err != nil {
		return fmt.Errorf("cannot link %s: %w", path, withoutPath(err))
	}
	return syncDir(filepath.Dir(h.path(path)))
}

// Readlink returns the target of a symbolic link, or "" if path is not a link.
func (h *Host) Readlink(path string) string {
	target, err := os.Readlink(h.path(path))
	if err != nil {
		return ""
	}
	return target
}

// SHA256 returns a file's sha256 in hexadecimal.
func (h *Host) SHA256(path string) (string, error) {
	f, err := os.Open(h.resolve(path))
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, withoutPath(err))
	}
	defer f.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, withoutPath(err))
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// RealPath converts an absolute path of the machine to a path of this process,
// for libraries that open files themselves. It resolves symbolic links inside
// the root.
func (h *Host) RealPath(path string) string { return h.resolve(path) }

// syncDir makes created, renamed and removed names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// withoutPath removes the operation and the path from an error, because the
// caller's message names both.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

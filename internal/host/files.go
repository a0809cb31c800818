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

// MaxFile bounds what ReadFile reads, in bytes: configuration and state files
// are a few KiB; anything near this is not one of them.
const MaxFile = 4 << 20

// ReadFile reads a file of at most MaxFile bytes. Errors wrap fs.ErrNotExist
// and its like.
func (h *Host) ReadFile(path string) ([]byte, error) {
	f, err := os.Open(h.followed(path))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, plain(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, plain(err))
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("cannot read %s: larger than %d bytes", path, MaxFile)
	}
	return data, nil
}

// Exists tells whether path exists, symbolic links not followed.
func (h *Host) Exists(path string) bool {
	_, err := os.Lstat(h.path(path))
	return err == nil
}

// Stat describes path, symbolic links followed.
func (h *Host) Stat(path string) (fs.FileInfo, error) {
	info, err := os.Stat(h.followed(path))
	if err != nil {
		return nil, fmt.Errorf("cannot look at %s: %w", path, plain(err))
	}
	return info, nil
}

// ReadDir lists the names in a folder, sorted; a folder that is not there is
// empty.
func (h *Host) ReadDir(path string) ([]string, error) {
	entries, err := os.ReadDir(h.followed(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", path, plain(err))
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// WriteFile writes a file whole or not at all, durably: a temporary file
// beside it, synced, renamed over it, and the folder synced, since a rename
// without that can be undone by a power cut. Missing folders are made (0755).
func (h *Host) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return h.write(path, bytes.NewReader(data), mode)
}

// Overwrite replaces a file's content in its place, durably: its owner, mode
// and labels stay, and it may be a mount point. It is not atomic: a power cut
// can leave the file empty or cut short.
func (h *Host) Overwrite(path string, data []byte) error {
	h.step("write", path)
	f, err := os.OpenFile(h.followed(path), os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	return nil
}

// InstallFile copies the file at source, a path of this process, to path the
// way WriteFile writes.
func (h *Host) InstallFile(source, path string, mode fs.FileMode) error {
	f, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	defer f.Close()
	return h.write(path, f, mode)
}

// InstallProgram is InstallFile of a program (0755) that must pass a trial
// first: until try has run it under another name, in the same folder, and
// returns nil, what lies at path stays as it is.
func (h *Host) InstallProgram(source, path string, try func(path string) error) error {
	trial := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".firstboot")
	if err := h.InstallFile(source, trial, 0o755); err != nil {
		return err
	}
	if err := try(trial); err != nil {
		return errors.Join(err, h.Remove(trial))
	}
	digest, err := h.SHA256(trial)
	if err != nil {
		return err
	}
	// As in write: listed before it is there.
	h.wrote(path, digest)
	h.wrote(trial, "")
	return h.Rename(trial, path)
}

func (h *Host) write(path string, from io.Reader, mode fs.FileMode) error {
	target := h.path(path)
	if err := h.mkdirs(filepath.Dir(target)); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	h.step("write", path)
	removeLeftovers(target)
	pending, err := renameio.NewPendingFile(target,
		renameio.WithTempDir(filepath.Dir(target)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	defer pending.Cleanup()
	digest := sha256.New()
	if _, err := io.Copy(io.MultiWriter(pending, digest), from); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	// Listed before it is there: a file that is there and not listed would
	// never be removed again, the other way round does no harm.
	h.wrote(path, hex.EncodeToString(digest.Sum(nil)))
	h.step("rename", path)
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	h.step("sync", filepath.Dir(path))
	if err := syncDir(filepath.Dir(target)); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, plain(err))
	}
	return nil
}

// leftover is the end of the name that renameio gives to a file that is not
// whole yet: a random 63-bit number.
var leftover = regexp.MustCompile(`^[0-9]{6,19}$`)

// removeLeftovers removes what writes of target left that were cut off: copies
// of a program are large, and those of a secret are secret. One that cannot be
// removed does no other harm.
func removeLeftovers(target string) {
	dir, prefix := filepath.Dir(target), "."+filepath.Base(target)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if end, is := strings.CutPrefix(e.Name(), prefix); is && e.Type().IsRegular() && leftover.MatchString(end) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// MkdirAll makes a folder and its parents (0755), durably.
func (h *Host) MkdirAll(path string) error {
	if err := h.mkdirs(h.path(path)); err != nil {
		return fmt.Errorf("cannot make %s: %w", path, plain(err))
	}
	return nil
}

// mkdirs makes the missing folders and syncs each one's parent.
func (h *Host) mkdirs(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
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

// Remove removes a file or an empty folder, durably; one that is not there is
// no error.
func (h *Host) Remove(path string) error {
	h.step("remove", path)
	err := os.Remove(h.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, plain(err))
	}
	h.wrote(path, "")
	return syncDir(filepath.Dir(h.path(path)))
}

// RemoveAll removes a folder and what is in it.
func (h *Host) RemoveAll(path string) error {
	h.step("remove", path)
	if err := os.RemoveAll(h.path(path)); err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, plain(err))
	}
	h.wrote(path, "")
	return nil
}

// Rename moves a file within one file system, durably.
func (h *Host) Rename(from, to string) error {
	h.step("rename", to)
	if err := os.Rename(h.path(from), h.path(to)); err != nil {
		return fmt.Errorf("cannot rename %s: %w", from, plain(err))
	}
	if err := syncDir(filepath.Dir(h.path(from))); err != nil {
		return err
	}
	return syncDir(filepath.Dir(h.path(to)))
}

// Symlink makes path a symbolic link to target, replacing what is there.
func (h *Host) Symlink(target, path string) error {
	if have, err := os.Readlink(h.path(path)); err == nil && have == target {
		return nil
	}
	if err := h.mkdirs(filepath.Dir(h.path(path))); err != nil {
		return fmt.Errorf("cannot link %s: %w", path, plain(err))
	}
	h.wrote(path, "link:"+target)
	h.step("link", path)
	if err := renameio.Symlink(target, h.path(path)); err != nil {
		return fmt.Errorf("cannot link %s: %w", path, plain(err))
	}
	return syncDir(filepath.Dir(h.path(path)))
}

// Readlink returns where a symbolic link points, or "" if path is none.
func (h *Host) Readlink(path string) string {
	target, err := os.Readlink(h.path(path))
	if err != nil {
		return ""
	}
	return target
}

// SHA256 is the digest of a file in hexadecimal.
func (h *Host) SHA256(path string) (string, error) {
	f, err := os.Open(h.followed(path))
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, plain(err))
	}
	defer f.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, plain(err))
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// RealPath is where an absolute path of the machine lies for this process:
// for handing to libraries that open files themselves. Symbolic links of an
// image are followed inside it.
func (h *Host) RealPath(path string) string { return h.followed(path) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// plain takes the operation and path off an error whose caller names both.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

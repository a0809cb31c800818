package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// maxFile bounds what ReadFile reads, in bytes. Configuration and state files
	// have a few KiB.
	maxFile = 4 << 20
	// maxHashed bounds what SHA256 reads, in bytes. Programs have up to 100 MB.
	maxHashed = 4 << 30
)

// FileHeader is the first line of the configuration files that firstboot owns.
const FileHeader = "# Written by firstboot; edits are reported as drift.\n"

// File is a configuration file that the machine must have.
type File struct {
	Path string
	Data []byte
	Mode fs.FileMode
}

// ReadFile reads a regular file of at most 4 MiB. If the file does not exist, the
// error wraps fs.ErrNotExist.
func (h *Host) ReadFile(path string) ([]byte, error) {
	f, err := h.openRegular(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
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
	e, err := h.entry(path, unix.O_PATH)
	if err != nil {
		return false
	}
	defer e.close()
	_, err = e.mode()
	return err == nil
}

// Stat describes path. It follows symbolic links.
func (h *Host) Stat(path string) (fs.FileInfo, error) {
	f, err := h.open(path, unix.O_PATH, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot stat %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot stat %s: %w", path, withoutPath(err))
	}
	return info, nil
}

// ReadDir lists the names in a directory, sorted. A directory that does not
// exist has none.
func (h *Host) ReadDir(path string) ([]string, error) {
	dir, err := h.open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", path, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", path, withoutPath(err))
	}
	slices.Sort(names)
	return names, nil
}

// Readlink returns the target of a symbolic link, or "" if path is not a link.
func (h *Host) Readlink(path string) string {
	e, err := h.entry(path, unix.O_PATH)
	if err != nil {
		return ""
	}
	defer e.close()
	return e.readlink()
}

// SHA256 returns a regular file's sha256 in hexadecimal.
func (h *Host) SHA256(path string) (string, error) {
	f, err := h.openRegular(path, unix.O_RDONLY, 0)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	defer f.Close()
	h.hashing(path)
	digest := sha256.New()
	n, err := io.Copy(digest, io.LimitReader(f, maxHashed+1))
	if err == nil && n > maxHashed {
		err = fmt.Errorf("larger than %d bytes", int64(maxHashed))
	}
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, withoutPath(err))
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// Open opens a regular file for reading. Opening a FIFO or a device fails without
// waiting.
func (h *Host) Open(path string) (*os.File, error) {
	f, err := h.openRegular(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return f, nil
}

// WriteFile writes a file atomically and durably: it writes and syncs a
// temporary file in the same directory, renames it and syncs the directory,
// because a power cut can undo a rename that is not synced. Missing directories
// are created as by MkdirAll. The umask does not change the modes.
func (h *Host) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return h.write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}, mode)
}

// WriteFrom writes what from returns to a file, as WriteFile does.
func (h *Host) WriteFrom(path string, from io.Reader, mode fs.FileMode) error {
	return h.write(path, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	}, mode)
}

// InstallFile copies the file source (a path of this process) to path, as
// WriteFile does.
func (h *Host) InstallFile(source, path string, mode fs.FileMode) error {
	f, err := os.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("cannot install %s: %w", path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("cannot install %s: %s is not a regular file", path, source)
	}
	return h.WriteFrom(path, f, mode)
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

package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Program is an executable that is to be installed.
type Program struct {
	Source string // a path of this process
	Path   string // on the machine
	SHA256 string // that it must have; "": any
	// Verified means that Source is known to have this digest. Otherwise it is
	// verified while it is copied.
	Verified bool
}

// DigestError means that a program does not have the digest that it must have.
type DigestError struct{ Path, Actual, Expected string }

func (e *DigestError) Error() string {
	return fmt.Sprintf("cannot install %s: the sha256 is %s, expected %s", e.Path, e.Actual, e.Expected)
}

// InstallProgram installs an executable (0755) after testing it: it copies the
// source to a temporary file in the same directory, verifies its digest, calls
// check with its path, and renames it only if check returns nil. An executable
// with another digest is not executed: the error is a *DigestError.
func (h *Host) InstallProgram(p Program, check func(path string) error) error {
	temporary := filepath.Join(filepath.Dir(p.Path), "."+filepath.Base(p.Path)+".firstboot")
	unlisted := *h // a temporary file is not in the manifest
	unlisted.manifest = noManifest{}
	digest, err := unlisted.copyProgram(p, temporary)
	if err == nil && p.SHA256 != "" && digest != p.SHA256 {
		err = &DigestError{p.Path, digest, p.SHA256}
	}
	if err == nil {
		err = check(temporary)
	}
	if err != nil {
		return errors.Join(err, unlisted.Remove(temporary))
	}
	h.manifest.Record(p.Path, digest) // before the rename, as in write
	return h.Rename(temporary, p.Path)
}

// copyProgram copies a program and returns its digest.
func (h *Host) copyProgram(p Program, to string) (string, error) {
	f, err := os.OpenFile(p.Source, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("cannot install %s: %w", p.Path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("cannot install %s: %s is not a regular file", p.Path, p.Source)
	}
	if p.Verified && p.SHA256 != "" {
		return p.SHA256, h.WriteFrom(to, f, 0o755)
	}
	h.hashing(p.Source)
	digest := sha256.New()
	err = h.WriteFrom(to, io.TeeReader(f, digest), 0o755)
	return hex.EncodeToString(digest.Sum(nil)), err
}

// Stamp identifies the content of a file without reading it: its inode, size, and
// the times of its last modification and change, which the kernel sets. "" if the
// file system has none of them.
func Stamp(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d %d.%09d %d.%09d", stat.Ino, stat.Size, stat.Mtim.Sec, stat.Mtim.Nsec, stat.Ctim.Sec, stat.Ctim.Nsec)
}

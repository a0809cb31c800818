package golden

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/unified"
)

// Change is one change to an image.
type Change struct {
	Action string `json:"action"` // write, link or bundle
	Path   string `json:"path"`   // in the image
	Actual string `json:"seen"`   // the actual state
	Size   int64  `json:"bytes,omitempty"`
	Diff   string `json:"diff,omitempty"` // unified; only for files that everyone may read
	apply  func(context.Context) error
}

// Apply makes the change. It may be called again.
func (c Change) Apply(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return c.apply(ctx)
}

// File is a file to install into an image.
type File struct {
	Path   string
	Data   []byte
	Mode   fs.FileMode
	Secret bool // holds secrets: its content is never shown
}

// change returns the change that installs f. differs is false if the image
// already has f.
func (f File) change(h *host.Host) (c Change, differs bool, err error) {
	have, err := h.ReadFile(f.Path)
	var actual string
	switch {
	case host.NotExist(err):
		actual, err = missing, nil
	case err != nil:
		return c, false, err
	case !bytes.Equal(have, f.Data):
		actual = "other content"
	default:
		actual, err = wrongMode(h, f.Path, f.Mode)
	}
	if actual == "" || err != nil {
		return c, false, err
	}
	return Change{
		Action: "write", Path: f.Path, Actual: actual, Size: int64(len(f.Data)), Diff: f.diff(have),
		apply: func(context.Context) error { return h.WriteFile(f.Path, f.Data, f.Mode) },
	}, true, nil
}

// missing is the actual state of a file that does not exist.
const missing = "missing"

// wrongMode describes the mode of a file that differs from want; "" if it does not.
func wrongMode(h *host.Host, path string, want fs.FileMode) (string, error) {
	info, err := h.Stat(path)
	if err != nil || info.Mode().Perm() == want {
		return "", err
	}
	return fmt.Sprintf("mode %04o, expected %04o", info.Mode().Perm(), want), nil
}

// diff returns a unified diff, or "" if the content may not be shown.
func (f File) diff(have []byte) string {
	if f.Secret || f.Mode&0o004 == 0 || bytes.Equal(have, f.Data) {
		return ""
	}
	return unified.Diff(f.Path, have, f.Data)
}

// link returns the change that makes path a symbolic link to target. differs is
// false if it already leads to target, even by another path: systemctl enable on
// Debian writes /lib for /usr/lib.
func link(h *host.Host, target, path string) (c Change, differs bool) {
	actual := missing
	switch have := h.Readlink(path); {
	case have == target, have != "" && sameFile(h, path, target):
		return c, false
	case have != "":
		actual = "links to " + have
	case h.Exists(path):
		actual = "not a link"
	}
	return Change{
		Action: "link", Path: path, Actual: actual,
		apply: func(context.Context) error { return h.Symlink(target, path) },
	}, true
}

// sameFile reports whether two paths lead to the same existing file.
func sameFile(h *host.Host, a, b string) bool {
	one, err := h.Stat(a)
	if err != nil {
		return false
	}
	other, err := h.Stat(b)
	return err == nil && os.SameFile(one, other)
}

package golden

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"

	"github.com/projecteru2/firstboot/internal/host"
)

// Change is one thing that an image lacks.
type Change struct {
	Action string `json:"action"` // write, link or bundle
	Path   string `json:"path"`   // in the image
	Seen   string `json:"seen"`   // what is there now
	Size   int64  `json:"bytes,omitempty"`
	Diff   string `json:"diff,omitempty"` // unified; only of texts that everyone may read
	apply  func(context.Context) error
}

// Apply makes one change. It may be made again.
func (c Change) Apply(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return c.apply(ctx)
}

// File is a file as an image should have it.
type File struct {
	Path   string
	Data   []byte
	Mode   fs.FileMode
	Hidden bool // its content is not to be shown
}

// change is what makes an image's file f; ok is false where it is f already.
func (f File) change(h *host.Host) (c Change, ok bool, err error) {
	have, err := h.ReadFile(f.Path)
	var seen string
	switch {
	case host.NotExist(err):
		seen, err = absent, nil
	case err != nil:
		return c, false, err
	case !bytes.Equal(have, f.Data):
		seen = "other content"
	default:
		seen, err = wrongMode(h, f.Path, f.Mode)
	}
	if seen == "" || err != nil {
		return c, false, err
	}
	return Change{
		Action: "write", Path: f.Path, Seen: seen, Size: int64(len(f.Data)), Diff: f.diff(have),
		apply: func(context.Context) error { return h.WriteFile(f.Path, f.Data, f.Mode) },
	}, true, nil
}

const absent = "not there"

func wrongMode(h *host.Host, path string, want fs.FileMode) (string, error) {
	info, err := h.Stat(path)
	if err != nil || info.Mode().Perm() == want {
		return "", err
	}
	return fmt.Sprintf("mode %04o, not %04o", info.Mode().Perm(), want), nil
}

func (f File) diff(have []byte) string {
	if f.Hidden || f.Mode&0o004 == 0 || bytes.Equal(have, f.Data) {
		return ""
	}
	from := f.Path
	if have == nil {
		from = "/dev/null"
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: lines(have), B: lines(f.Data),
		FromFile: from, ToFile: f.Path, Context: 2,
	})
	if err != nil {
		return "" // it only shows what the change says anyway
	}
	return text
}

// lines are a text's, each with its end.
func lines(text []byte) []string {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(slices.Clone(text), '\n')
	}
	return slices.Collect(strings.Lines(string(text)))
}

// link is what makes path a symbolic link; ok is false where it is one already,
// maybe by another way: systemctl enable on Debian writes /lib for /usr/lib.
func link(h *host.Host, target, path string) (c Change, ok bool) {
	seen := absent
	switch have := h.Readlink(path); {
	case have == target, have != "" && sameFile(h, path, target):
		return c, false
	case have != "":
		seen = "leads to " + have
	case h.Exists(path):
		seen = "no link"
	}
	return Change{
		Action: "link", Path: path, Seen: seen,
		apply: func(context.Context) error { return h.Symlink(target, path) },
	}, true
}

// sameFile tells whether two paths lead to one file that exists.
func sameFile(h *host.Host, a, b string) bool {
	one, err := h.Stat(a)
	if err != nil {
		return false
	}
	other, err := h.Stat(b)
	return err == nil && os.SameFile(one, other)
}

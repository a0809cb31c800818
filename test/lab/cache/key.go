package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// keyLength is the number of hex digits of a key, the first digits of a sha256.
// 64 bits are enough for the few entries of a cache.
const keyLength = 16

var keyForm = regexp.MustCompile(fmt.Sprintf("^[0-9a-f]{%d}$", keyLength))

func isKey(s string) bool { return keyForm.MatchString(s) }

// Key returns the key for a build with these inputs, for example versions,
// package lists or contents. Key("a", "b") differs from Key("ab") and from
// Key("b", "a").
func Key(inputs ...string) string {
	h := sha256.New()
	for _, s := range inputs {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil))[:keyLength]
}

// Contents returns a digest of files and directories, as an input for Key. It
// covers relative names, executable bits, contents, and targets of symbolic
// links. Inside a directory, names that start with a dot are ignored (editors'
// files, .git).
func Contents(paths ...string) (string, error) {
	h := sha256.New()
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path != root && strings.HasPrefix(d.Name(), ".") {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			name, err := filepath.Rel(filepath.Dir(root), path)
			if err != nil {
				return err
			}
			return addFile(h, name, path, d)
		})
		if err != nil {
			return "", fmt.Errorf("cannot compute the digest of %s: %w", root, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func addFile(h io.Writer, name, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "link %q %q\n", name, target)
	case info.Mode().IsRegular():
		fmt.Fprintf(h, "file %q %v %d\n", name, info.Mode().Perm()&0o111 != 0, info.Size())
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(h, f)
		return err
	}
	return nil
}

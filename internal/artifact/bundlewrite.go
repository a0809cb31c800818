package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Item is an artifact to put into a bundle, and its current file.
type Item struct {
	Entry        // WriteBundle sets Size, and SHA256 if it is empty
	Path  string // of a verified file, as Get returns it
}

// WriteBundle makes dir a bundle of exactly these artifacts. It keeps files that
// are already correct. An existing bundle stays usable until WriteBundle
// replaces its manifest; then it removes the artifacts that are no longer named.
func WriteBundle(ctx context.Context, dir string, items []Item) (*Bundle, error) {
	b := &Bundle{Dir: dir, Entries: []Entry{}}
	if err := os.MkdirAll(filepath.Join(dir, contentDir), 0o755); err != nil {
		return nil, fmt.Errorf("cannot create the bundle in %s: %w", dir, withoutPath(err))
	}
	for _, item := range items {
		e, err := b.add(ctx, item)
		if err != nil {
			return nil, err
		}
		b.Entries = append(b.Entries, e)
	}
	if err := checkEntries(b.Entries); err != nil {
		return nil, fmt.Errorf("cannot create the bundle in %s: %w", dir, err)
	}
	if err := b.writeManifest(); err != nil {
		return nil, fmt.Errorf("cannot write the manifest of the bundle in %s: %w", dir, withoutPath(err))
	}
	return b, b.removeUnnamed()
}

// add copies one artifact into the bundle.
func (b *Bundle) add(ctx context.Context, item Item) (Entry, error) {
	e := item.Entry
	e.Source = redact(e.Source)
	fail := func(err error) (Entry, error) {
		return e, fmt.Errorf("cannot put %s into the bundle in %s: %w", e.Name, b.Dir, withoutPath(err))
	}
	info, err := os.Stat(item.Path)
	if err != nil {
		return fail(err)
	}
	digest, err := fileDigest(ctx, item.Path)
	if err != nil {
		return fail(err)
	}
	if e.SHA256 != "" && e.SHA256 != digest {
		return e, &MismatchError{Name: e.Name, Source: item.Path, Want: e.SHA256, Got: digest, Size: info.Size()}
	}
	e.SHA256, e.Size = digest, info.Size()
	if err := e.check(); err != nil {
		return fail(err)
	}
	if b.VerifyEntry(ctx, e) == nil {
		return e, nil
	}
	if err := copyDurably(ctx, item.Path, b.Path(e)); err != nil {
		return fail(err)
	}
	if err := b.VerifyEntry(ctx, e); err != nil {
		return fail(err) // the file changed during the copy
	}
	return e, nil
}

// copyDurably copies a file atomically and durably.
func copyDurably(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(to, renameio.WithTempDir(filepath.Dir(to)), renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	if _, err := io.Copy(out, contextReader{ctx, in}); err != nil {
		return err
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func (b *Bundle) writeManifest() error {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(manifest{Schema: manifestSchema, Entries: b.Entries}); err != nil {
		return err
	}
	path := filepath.Join(b.Dir, manifestName)
	if err := renameio.WriteFile(path, data.Bytes(), 0o644, renameio.WithTempDir(b.Dir)); err != nil {
		return err
	}
	return syncDir(b.Dir)
}

// removeUnnamed removes the artifacts that the manifest does not name, and the
// temporary files of interrupted copies. It keeps files with other names.
func (b *Bundle) removeUnnamed() error {
	content := filepath.Join(b.Dir, contentDir)
	files, err := os.ReadDir(content)
	if err != nil {
		return fmt.Errorf("cannot clean the bundle in %s: %w", b.Dir, withoutPath(err))
	}
	var all []error
	for _, f := range files {
		if _, named := b.find(f.Name()); named || !isSHA256(f.Name()) && !isTemporary(f.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(content, f.Name())); err != nil {
			all = append(all, fmt.Errorf("cannot remove %s from the bundle in %s: %w", f.Name(), b.Dir, withoutPath(err)))
		}
	}
	return errors.Join(all...)
}

// isTemporary reports whether name is the name of renameio's temporary file for
// an artifact: .DIGEST followed by digits.
func isTemporary(name string) bool {
	const digestEnd = 1 + 2*sha256.Size
	return len(name) > digestEnd && name[0] == '.' && isSHA256(name[1:digestEnd])
}

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

// Item is an artifact that goes into a bundle, and the file it is now.
type Item struct {
	Entry        // Size is filled in; SHA256 too where it is empty
	Path  string // of a verified file, as Get returns it
}

// WriteBundle makes dir a bundle of exactly these artifacts. Files that are
// there and right stay; what only an older manifest named goes. A bundle that
// was there stays usable until the new manifest takes its place, which is
// the last step but that cleaning.
func WriteBundle(ctx context.Context, dir string, items []Item) (*Bundle, error) {
	b := &Bundle{Dir: dir, Entries: []Entry{}}
	content := filepath.Join(dir, contentFolder)
	if err := os.MkdirAll(content, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the bundle in %s: %w", dir, plain(err))
	}
	for _, item := range items {
		e, err := b.add(ctx, item)
		if err != nil {
			return nil, err
		}
		b.Entries = append(b.Entries, e)
	}
	if err := checkEntries(b.Entries); err != nil {
		return nil, fmt.Errorf("cannot make the bundle in %s: %w", dir, err)
	}
	if err := b.writeManifest(); err != nil {
		return nil, fmt.Errorf("cannot write the manifest of the bundle in %s: %w", dir, plain(err))
	}
	return b, b.clean()
}

// add copies one artifact into the bundle.
func (b *Bundle) add(ctx context.Context, item Item) (Entry, error) {
	e := item.Entry
	e.Source = redact(e.Source)
	fail := func(err error) (Entry, error) {
		return e, fmt.Errorf("cannot put %s into the bundle in %s: %w", e.Name, b.Dir, plain(err))
	}
	info, err := os.Stat(item.Path)
	if err != nil {
		return fail(err)
	}
	sum, err := fileSum(ctx, item.Path)
	if err != nil {
		return fail(err)
	}
	if e.SHA256 != "" && e.SHA256 != sum {
		return e, &MismatchError{Name: e.Name, Source: item.Path, Want: e.SHA256, Got: sum, Size: info.Size()}
	}
	e.SHA256, e.Size = sum, info.Size()
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
		return fail(err) // the file changed while it was copied
	}
	return e, nil
}

// copyDurably copies a file whole or not at all, synced.
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
	if _, err := io.Copy(out, withContext{ctx, in}); err != nil {
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

// clean removes the artifacts that the manifest does not name, and what a
// power cut left of copying one. Only files that are named like these are
// touched.
func (b *Bundle) clean() error {
	folder := filepath.Join(b.Dir, contentFolder)
	files, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("cannot clean the bundle in %s: %w", b.Dir, plain(err))
	}
	var all []error
	for _, f := range files {
		if _, named := b.find(f.Name()); named || !isSum(f.Name()) && !isTemporary(f.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(folder, f.Name())); err != nil {
			all = append(all, fmt.Errorf("cannot remove %s from the bundle in %s: %w", f.Name(), b.Dir, plain(err)))
		}
	}
	return errors.Join(all...)
}

// isTemporary tells the names that renameio gives to a copy of an artifact
// before it is whole: .DIGEST followed by digits.
func isTemporary(name string) bool {
	const sumEnd = 1 + 2*sha256.Size
	return len(name) > sumEnd && name[0] == '.' && isSum(name[1:sumEnd])
}

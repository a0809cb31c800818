package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/projecteru2/firstboot/internal/host"
)

// Item is an artifact to put into a bundle, and its current file.
type Item struct {
	Entry        // WriteBundle sets Size, and SHA256 if it is empty
	Path  string // of a verified file, as Get returns it
}

// WriteBundle makes dir a bundle of exactly these artifacts. It keeps files that
// are already correct. An existing bundle stays usable until WriteBundle
// replaces its manifest; then it removes the artifacts that are no longer named.
// The options are for tests.
func WriteBundle(ctx context.Context, dir string, items []Item, options ...host.Option) (*Bundle, error) {
	b := &Bundle{Dir: dir, Entries: []Entry{}, options: options}
	if err := b.files().MkdirAll("/" + contentDir); err != nil {
		return nil, fmt.Errorf("cannot create the bundle in %s: %w", dir, bareCause(err))
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
		return nil, fmt.Errorf("cannot write the manifest of the bundle in %s: %w", dir, bareCause(err))
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
	if err := b.copy(ctx, item.Path, e); err != nil {
		return fail(err)
	}
	if err := b.VerifyEntry(ctx, e); err != nil {
		return fail(err) // the file changed during the copy
	}
	return e, nil
}

// copy copies a file into the bundle, atomically and durably.
func (b *Bundle) copy(ctx context.Context, from string, to Entry) error {
	in, err := openRegular(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return bareCause(b.files().WriteFrom(contentPath(to.SHA256), contextReader{ctx, in}, 0o644))
}

// bareCause removes the path in the bundle from an error of its files: the
// caller's message names the bundle.
func bareCause(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}

func (b *Bundle) writeManifest() error {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(manifest{Schema: manifestSchema, Entries: b.Entries}); err != nil {
		return err
	}
	return b.files().WriteFile("/"+manifestName, data.Bytes(), 0o644)
}

// removeUnnamed removes the artifacts that the manifest does not name, and the
// temporary files of interrupted copies. It keeps files with other names.
func (b *Bundle) removeUnnamed() error {
	names, err := b.files().ReadDir("/" + contentDir)
	if err != nil {
		return fmt.Errorf("cannot clean the bundle in %s: %w", b.Dir, bareCause(err))
	}
	var all []error
	for _, name := range names {
		if _, named := b.find(name); named || !isSHA256(name) && !isTemporary(name) {
			continue
		}
		if err := b.files().Remove(contentPath(name)); err != nil {
			all = append(all, fmt.Errorf("cannot remove %s from the bundle in %s: %w", name, b.Dir, bareCause(err)))
		}
	}
	return errors.Join(all...)
}

// isTemporary reports whether name is the name of a temporary file for an
// artifact: .DIGEST followed by digits.
func isTemporary(name string) bool {
	const digestEnd = 1 + 2*sha256.Size
	return len(name) > digestEnd && name[0] == '.' && isSHA256(name[1:digestEnd])
}

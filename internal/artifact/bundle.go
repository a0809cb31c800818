package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// A bundle is a folder with manifest.json and, named by their digest, the
// artifacts: sha256/<64 hexadecimal digits>. The manifest is written last, so
// a bundle with a manifest is whole.
const (
	manifestName   = "manifest.json"
	contentFolder  = "sha256"
	manifestSchema = 1
	// maxManifest bounds a manifest, in bytes, maxEntries its entries, and
	// maxField each text of one. A configuration names three artifacts.
	maxManifest = 1 << 20
	maxEntries  = 1000
	maxField    = 4 << 10
)

// Entry is one artifact of a bundle.
type Entry struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	SHA256  string `json:"sha256"`           // 64 lower-case hexadecimal digits
	Size    int64  `json:"size"`             // in bytes
	Source  string `json:"source,omitempty"` // where it was fetched from, without credentials
}

type manifest struct {
	Schema  int     `json:"schema"`
	Entries []Entry `json:"artifacts"`
}

// Bundle is an opened bundle: its manifest was read and checked, its files
// were not (Verify does).
type Bundle struct {
	Dir     string
	Entries []Entry // in the manifest's order
}

// OpenBundle reads the manifest of the bundle in dir. The error of a bundle
// that is not there wraps fs.ErrNotExist.
func OpenBundle(dir string) (*Bundle, error) {
	path := filepath.Join(dir, manifestName)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the bundle in %s: %w", dir, plain(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, plain(err))
	}
	entries, err := decodeManifest(data)
	if err != nil {
		return nil, refuse("make the bundle anew: firstboot bundle", "cannot use the bundle in %s: its %s: %v", dir, manifestName, err)
	}
	return &Bundle{Dir: dir, Entries: entries}, nil
}

// decodeManifest reads a manifest strictly: what it does not know it refuses.
func decodeManifest(data []byte) ([]Entry, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("more than %d bytes", maxManifest)
	}
	var m manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%s", clip(err.Error()))
	}
	if d.More() {
		return nil, errors.New("something follows the manifest")
	}
	if m.Schema != manifestSchema {
		return nil, fmt.Errorf("schema %d, this firstboot knows %d", m.Schema, manifestSchema)
	}
	return m.Entries, checkEntries(m.Entries)
}

func checkEntries(entries []Entry) error {
	if len(entries) > maxEntries {
		return fmt.Errorf("%d artifacts, at most %d are allowed", len(entries), maxEntries)
	}
	names, sums := map[string]bool{}, map[string]int64{}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return err
		}
		if size, seen := sums[e.SHA256]; seen && size != e.Size {
			return fmt.Errorf("two sizes for sha256 %s", e.SHA256)
		}
		id := e.Name + "\x00" + e.Version
		if names[id] {
			return fmt.Errorf("%s %s twice", e.Name, e.Version)
		}
		names[id], sums[e.SHA256] = true, e.Size
	}
	return nil
}

func (e Entry) check() error {
	if e.Name == "" || strings.ContainsAny(e.Name, "/\\") {
		return fmt.Errorf("%q is no name of an artifact", clip(e.Name))
	}
	for _, text := range []string{e.Name, e.Version, e.Source} {
		if len(text) > maxField || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%q is no text for a manifest", clip(text))
		}
	}
	if !isSum(e.SHA256) {
		return fmt.Errorf("%s: %q is no sha256", e.Name, clip(e.SHA256))
	}
	if e.Size < 0 {
		return fmt.Errorf("%s: size %d", e.Name, e.Size)
	}
	return nil
}

// Path is the file of an entry.
func (b *Bundle) Path(e Entry) string { return filepath.Join(b.Dir, contentFolder, e.SHA256) }

// Verify hashes every file and reports all that are not what the manifest
// says.
func (b *Bundle) Verify(ctx context.Context) error {
	var all []error
	for _, e := range b.Entries {
		if err := b.VerifyEntry(ctx, e); err != nil {
			all = append(all, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(all...)
}

// VerifyEntry hashes one entry's file.
func (b *Bundle) VerifyEntry(ctx context.Context, e Entry) error {
	path := b.Path(e)
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return fmt.Errorf("cannot use %s of the bundle in %s: %w", e.Name, b.Dir, plain(err))
	case !info.Mode().IsRegular():
		return fmt.Errorf("cannot use %s of the bundle in %s: it is no regular file", e.Name, b.Dir)
	case info.Size() != e.Size:
		return fmt.Errorf("cannot use %s of the bundle in %s: it has %d bytes, the manifest says %d", e.Name, b.Dir, info.Size(), e.Size)
	}
	sum, err := fileSum(ctx, path)
	if err != nil {
		return fmt.Errorf("cannot read %s of the bundle in %s: %w", e.Name, b.Dir, err)
	}
	if sum != e.SHA256 {
		return &MismatchError{Name: e.Name, Source: b.Dir, Want: e.SHA256, Got: sum, Size: e.Size}
	}
	return nil
}

func (b *Bundle) find(sum string) (Entry, bool) {
	for _, e := range b.Entries {
		if sum != "" && e.SHA256 == sum {
			return e, true
		}
	}
	return Entry{}, false
}

// openBundles opens the bundles that are there. A damaged one is logged and
// passed over: the artifact may be had elsewhere.
func (s *Store) openBundles() []*Bundle {
	var list []*Bundle
	for _, dir := range s.bundles {
		b, err := OpenBundle(dir)
		switch {
		case err == nil:
			list = append(list, b)
		case !errors.Is(err, fs.ErrNotExist):
			s.log(err.Error())
		}
	}
	return list
}

// fromBundle returns a bundle's file that was hashed just now.
func (s *Store) fromBundle(ctx context.Context, sum string) (string, bool) {
	for _, b := range s.openBundles() {
		e, ok := b.find(sum)
		if !ok {
			continue
		}
		if err := b.VerifyEntry(ctx, e); err != nil {
			s.log(err.Error())
			continue
		}
		return b.Path(e), true
	}
	return "", false
}

// Bundled returns the path of the artifact of that name in the first bundle
// that has it, verified against the manifest. It is for artifacts that the
// configuration does not pin: the image's maker did, by making the bundle.
func (s *Store) Bundled(name string) (string, error) {
	for _, b := range s.openBundles() {
		var found []Entry
		for _, e := range b.Entries {
			if e.Name == name {
				found = append(found, e)
			}
		}
		if len(found) > 1 {
			return "", refuse("say which by its sha256", "the bundle in %s has %d versions of %s", b.Dir, len(found), name)
		}
		if len(found) == 1 {
			return b.Path(found[0]), b.VerifyEntry(context.Background(), found[0])
		}
	}
	return "", refuse("set its url, or put it into a bundle: firstboot bundle", "cannot get %s: it is in no bundle and has no url", name)
}

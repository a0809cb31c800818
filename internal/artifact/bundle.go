package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

// A bundle is a directory with manifest.json and the artifacts, whose names are
// their digests: sha256/<64 hexadecimal digits>. The manifest is written last,
// so a bundle with a manifest is complete.
const (
	manifestName   = "manifest.json"
	contentDir     = "sha256"
	manifestSchema = 1
	// maxManifest bounds a manifest, in bytes, maxEntries its entries, and
	// maxField each string of an entry, in bytes. A configuration names three
	// artifacts.
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
	Source  string `json:"source,omitempty"` // the URL or path it came from, without credentials
}

type manifest struct {
	Schema  int     `json:"schema"`
	Entries []Entry `json:"artifacts"`
}

// Bundle is a bundle whose manifest was read and validated. Its files are not
// verified (see Verify).
type Bundle struct {
	Dir     string
	Entries []Entry // in the manifest's order

	options []host.Option // for tests
}

// files gives access to the bundle's files. Symbolic links are resolved inside
// the bundle: one in an image must not lead to the files of the machine that
// builds it.
func (b *Bundle) files() *host.Host {
	dir, err := filepath.Abs(b.Dir)
	if err != nil {
		dir = b.Dir
	}
	return host.New(dir, b.options...)
}

// contentPath is the path of an entry's file in the bundle.
func contentPath(digest string) string { return "/" + contentDir + "/" + digest }

// OpenBundle reads the manifest of the bundle in dir. If there is no bundle, the
// error wraps fs.ErrNotExist.
func OpenBundle(dir string) (*Bundle, error) {
	b := &Bundle{Dir: dir}
	data, err := b.files().ReadFile("/" + manifestName)
	if err != nil {
		return nil, fmt.Errorf("cannot open the bundle in %s: %w", dir, bareCause(err))
	}
	b.Entries, err = decodeManifest(data)
	if err != nil {
		return nil, invalidf("create the bundle again: firstboot bundle", "cannot use the bundle in %s: %s: %v", dir, manifestName, err)
	}
	return b, nil
}

// decodeManifest decodes a manifest strictly: unknown keys are errors.
func decodeManifest(data []byte) ([]Entry, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("more than %d bytes", maxManifest)
	}
	var m manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%s", text.Line(err.Error()))
	}
	if d.More() {
		return nil, errors.New("unexpected data after the manifest")
	}
	if m.Schema != manifestSchema {
		return nil, fmt.Errorf("schema %d is not supported, only %d", m.Schema, manifestSchema)
	}
	return m.Entries, checkEntries(m.Entries)
}

func checkEntries(entries []Entry) error {
	if len(entries) > maxEntries {
		return fmt.Errorf("%d artifacts are more than the maximum of %d", len(entries), maxEntries)
	}
	names, sizes := map[string]bool{}, map[string]int64{}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return err
		}
		if size, seen := sizes[e.SHA256]; seen && size != e.Size {
			return fmt.Errorf("sha256 %s has two sizes", e.SHA256)
		}
		id := e.Name + "\x00" + e.Version
		if names[id] {
			return fmt.Errorf("duplicate %s %s", e.Name, e.Version)
		}
		names[id], sizes[e.SHA256] = true, e.Size
	}
	return nil
}

func (e Entry) check() error {
	if e.Name == "" || strings.ContainsAny(e.Name, "/\\") {
		return fmt.Errorf("%q is not an artifact name", text.Line(e.Name))
	}
	for _, field := range []string{e.Name, e.Version, e.Source} {
		if len(field) > maxField || strings.ContainsFunc(field, unicode.IsControl) {
			return fmt.Errorf("%q is too long or contains control characters", text.Line(field))
		}
	}
	if !isSHA256(e.SHA256) {
		return fmt.Errorf("%s: %q is not a sha256", e.Name, text.Line(e.SHA256))
	}
	if e.Size < 0 {
		return fmt.Errorf("%s: size %d is negative", e.Name, e.Size)
	}
	return nil
}

// Path is the path of an entry's file.
func (b *Bundle) Path(e Entry) string { return b.files().RealPath(contentPath(e.SHA256)) }

// Verify hashes every file. Its error names all that do not match the manifest.
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

// VerifyEntry checks one entry's file against the manifest.
func (b *Bundle) VerifyEntry(ctx context.Context, e Entry) error {
	return b.verifyEntry(ctx, e, new(digests))
}

// verifyEntry of a Store does not read a file that it has verified and that is
// unchanged since.
func (s *Store) verifyEntry(ctx context.Context, b *Bundle, e Entry) error {
	return b.verifyEntry(ctx, e, &s.digests)
}

func (b *Bundle) verifyEntry(ctx context.Context, e Entry, known *digests) error {
	f, err := b.open(e)
	if err != nil {
		return fmt.Errorf("cannot use %s of the bundle in %s: %w", e.Name, b.Dir, withoutPath(err))
	}
	defer f.Close()
	digest, err := known.of(ctx, f)
	if err != nil {
		return fmt.Errorf("cannot read %s of the bundle in %s: %w", e.Name, b.Dir, err)
	}
	if digest != e.SHA256 {
		return &MismatchError{Name: e.Name, Source: b.Dir, Want: e.SHA256, Got: digest, Size: e.Size}
	}
	return nil
}

// open opens an entry's file, if it has the right size.
func (b *Bundle) open(e Entry) (*os.File, error) {
	if b.files().Readlink(contentPath(e.SHA256)) != "" {
		return nil, errNotRegular
	}
	f, err := b.files().Open(contentPath(e.SHA256))
	if err != nil {
		return nil, bareCause(err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != e.Size {
		err = fmt.Errorf("size is %d bytes, expected %d", info.Size(), e.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// has reports whether an entry's file exists with the right size.
func (b *Bundle) has(e Entry) bool {
	f, err := b.open(e)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// find returns the entry with a digest.
func (b *Bundle) find(digest string) (Entry, bool) {
	for _, e := range b.Entries {
		if digest != "" && e.SHA256 == digest {
			return e, true
		}
	}
	return Entry{}, false
}

// openBundles opens the bundles that exist. It logs and skips a damaged one,
// because another source may have the artifact.
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

// fromBundle returns the path of a bundle's file with that digest, after
// verifying it.
func (s *Store) fromBundle(ctx context.Context, digest string) (string, bool) {
	for _, b := range s.openBundles() {
		e, ok := b.find(digest)
		if !ok {
			continue
		}
		if err := s.verifyEntry(ctx, b, e); err != nil {
			s.log(err.Error())
			continue
		}
		return b.Path(e), true
	}
	return "", false
}

// Bundled finds an artifact by name in the first bundle that has it, verifies
// it against the manifest and returns its path. It is for artifacts that the
// configuration does not pin: whoever built the image pinned them in the
// bundle.
func (s *Store) Bundled(name string) (string, error) {
	for _, b := range s.openBundles() {
		var found []Entry
		for _, e := range b.Entries {
			if e.Name == name {
				found = append(found, e)
			}
		}
		if len(found) > 1 {
			return "", invalidf("set its sha256 to choose one", "the bundle in %s has %d versions of %s", b.Dir, len(found), name)
		}
		if len(found) == 1 {
			return b.Path(found[0]), s.verifyEntry(context.Background(), b, found[0])
		}
	}
	return "", invalidf(hintNoSource, "cannot get %s: not in a bundle, and no url is set", name)
}

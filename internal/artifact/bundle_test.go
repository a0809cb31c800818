package artifact

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/fault"
)

// file writes data into a new file and returns its path.
func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func bundle(t *testing.T, dir string, items ...Item) *Bundle {
	t.Helper()
	b, err := WriteBundle(t.Context(), dir, items)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenBundleReadsWhatWriteBundleWrote(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	one, two := noise(1000), noise(2000)
	written := bundle(t, dir,
		Item{Entry{Name: "calicoctl", Version: "v3.23.0", SHA256: digestOf(one), Source: "https://user:s3cret@host/x?sig=s3cret"}, file(t, one)},
		Item{Entry{Name: "node-image"}, file(t, two)},
	)
	want := []Entry{
		{Name: "calicoctl", Version: "v3.23.0", SHA256: digestOf(one), Size: 1000, Source: "https://***@host/x?***"},
		{Name: "node-image", SHA256: digestOf(two), Size: 2000},
	}
	read, err := OpenBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read.Entries) + cmp.Diff(want, written.Entries); diff != "" {
		t.Error(diff)
	}
	if err := read.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil || strings.Contains(string(manifest), "s3cret") {
		t.Errorf("%v, %s", err, manifest)
	}
}

func TestWriteBundleRemovesOldArtifacts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	one, two := noise(1000), noise(2000)
	bundle(t, dir, Item{Entry{Name: "a"}, file(t, one)}, Item{Entry{Name: "b"}, file(t, two)})
	// The temporary file of an interrupted copy, and a foreign file.
	for _, name := range []string{"." + digestOf(one) + "123", "README"} {
		if err := os.WriteFile(filepath.Join(dir, "sha256", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A damaged file is written again.
	if err := os.WriteFile(filepath.Join(dir, "sha256", digestOf(two)), one, 0o600); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, dir, Item{Entry{Name: "b"}, file(t, two)})
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "sha256"))
	if err != nil || len(entries) != 2 || entries[0].Name() != digestOf(two) && entries[1].Name() != digestOf(two) {
		t.Errorf("the bundle contains %v, %v; want the artifact and README", entries, err)
	}
}

func TestFailedWriteBundleKeepsTheOldBundle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	one := noise(1000)
	bundle(t, dir, Item{Entry{Name: "a"}, file(t, one)})
	for what, items := range map[string][]Item{
		"a missing file":      {{Entry{Name: "b"}, file(t, noise(5))}, {Entry{Name: "c"}, filepath.Join(dir, "missing")}},
		"a wrong digest":      {{Entry{Name: "b", SHA256: digestOf(one)}, file(t, noise(5))}},
		"a duplicate name":    {{Entry{Name: "b"}, file(t, noise(5))}, {Entry{Name: "b"}, file(t, noise(6))}},
		"no name":             {{Entry{}, file(t, noise(5))}},
		"a name with a path":  {{Entry{Name: "../b"}, file(t, noise(5))}},
		"a control character": {{Entry{Name: "b", Version: "\x1b[2J"}, file(t, noise(5))}},
		"a directory":         {{Entry{Name: "b"}, dir}},
	} {
		if _, err := WriteBundle(t.Context(), dir, items); err == nil {
			t.Errorf("WriteBundle accepted %s", what)
		}
		b, err := OpenBundle(dir)
		if err != nil || len(b.Entries) != 1 || b.Verify(t.Context()) != nil {
			t.Fatalf("after %s the bundle is %+v, %v", what, b, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := WriteBundle(ctx, dir, []Item{{Entry{Name: "b"}, file(t, noise(5))}}); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteBundle = %v, want canceled", err)
	}
}

func TestVerifyNamesAllMismatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	b := bundle(t, dir, Item{Entry{Name: "good"}, file(t, noise(10))}, Item{Entry{Name: "changed"}, file(t, noise(20))},
		Item{Entry{Name: "short"}, file(t, noise(30))}, Item{Entry{Name: "missing"}, file(t, noise(40))}, Item{Entry{Name: "link"}, file(t, noise(50))})
	os.WriteFile(b.Path(b.Entries[1]), make([]byte, 20), 0o600)
	os.WriteFile(b.Path(b.Entries[2]), nil, 0o600)
	os.Remove(b.Path(b.Entries[3]))
	os.Remove(b.Path(b.Entries[4]))
	os.Symlink("/etc/hostname", b.Path(b.Entries[4]))
	err := b.Verify(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"changed", "short", "missing", "link"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	if strings.Contains(err.Error(), "good") {
		t.Errorf("%v names the correct artifact", err)
	}
}

func TestDecodeManifestIsStrict(t *testing.T) {
	digest := digestOf(nil)
	good := `{"schema":1,"artifacts":[{"name":"a","sha256":"` + digest + `","size":0}]}`
	if _, err := decodeManifest([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string]string{
		"empty":            ``,
		"invalid JSON":     `{`,
		"another schema":   strings.Replace(good, `"schema":1`, `"schema":2`, 1),
		"no schema":        `{"artifacts":[]}`,
		"an unknown key":   strings.Replace(good, `"size"`, `"siez"`, 1),
		"trailing data":    good + good,
		"a path as digest": strings.Replace(good, digest, "../../../etc/passwd", 1),
		"upper case":       strings.Replace(good, digest, strings.ToUpper(digest), 1),
		"a negative size":  strings.Replace(good, `"size":0`, `"size":-1`, 1),
		"no name":          strings.Replace(good, `"a"`, `""`, 1),
		"a duplicate":      `{"schema":1,"artifacts":[{"name":"a","sha256":"` + digest + `","size":0},{"name":"a","sha256":"` + digest + `","size":0}]}`,
		"two sizes":        `{"schema":1,"artifacts":[{"name":"a","sha256":"` + digest + `","size":0},{"name":"b","sha256":"` + digest + `","size":1}]}`,
		"too large":        good + strings.Repeat(" ", maxManifest),
		"too many entries": `{"schema":1,"artifacts":[` + strings.Repeat(`{},`, maxEntries) + `{}]}`,
		"escape sequence":  strings.Replace(good, `"a"`, `"\u001b[2J"`, 1),
	} {
		if entries, err := decodeManifest([]byte(data)); err == nil {
			t.Errorf("%s: decoded to %v", what, entries)
		}
	}
	if _, err := OpenBundle(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenBundle of an empty directory = %v, want fs.ErrNotExist", err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(`{"schema":1,"artifacts":[{"name":"a","version":"1","sha256":"` + digestOf(nil) + `","size":0,"source":"/x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeManifest(data)
		if err != nil {
			return
		}
		for _, e := range entries {
			if path := (&Bundle{Dir: "/b"}).Path(e); filepath.Dir(path) != "/b/sha256" {
				t.Errorf("%q is outside the bundle", path)
			}
		}
	})
}

func TestGetPrefersBundleOverNetwork(t *testing.T) {
	data := noise(1000)
	dir := filepath.Join(t.TempDir(), "bundle")
	b := bundle(t, dir, Item{Entry{Name: "calicoctl", Version: "v3.23.0"}, file(t, data)})
	url, requests := serve(t, data)
	bundles := []string{filepath.Join(t.TempDir(), "missing"), dir}
	s, log := logged(t, func(o *Options) { o.Bundles = bundles })
	ref := Ref{Name: "calicoctl", URL: url, SHA256: digestOf(data)}
	inBundle := b.Path(b.Entries[0])
	if path, ok := s.Lookup(ref); !ok || path != inBundle {
		t.Errorf("Lookup = %q, %v", path, ok)
	}
	for _, r := range []Ref{ref, {Name: "calicoctl", SHA256: ref.SHA256}} {
		if path, err := s.Get(t.Context(), r, nil); err != nil || path != inBundle || requests.Load() != 0 {
			t.Errorf("Get = %q, %v, %d requests; want the bundle's", path, err, requests.Load())
		}
	}
	if path, err := s.Bundled("calicoctl"); err != nil || path != inBundle {
		t.Errorf("Bundled = %q, %v", path, err)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}

	// A damaged artifact is logged, not used, and fetched instead.
	if err := os.WriteFile(inBundle, make([]byte, len(data)), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
	if !strings.Contains(log.String(), "calicoctl") {
		t.Errorf("log %q does not name the damaged artifact", log)
	}
	if path, err := s.Bundled("calicoctl"); err == nil {
		t.Errorf("Bundled returned the damaged %s", path)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log = logged(t, func(o *Options) { o.Bundles = bundles })
	if _, err := s.Get(t.Context(), Ref{Name: "calicoctl", SHA256: ref.SHA256}, nil); !fault.IsPermanent(err) || !strings.Contains(log.String(), dir) {
		t.Errorf("Get = %v, log %q; want a permanent error, and the damaged bundle in the log", err, log)
	}
}

func TestBundledRejectsUnknownAndAmbiguousNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	bundle(t, dir, Item{Entry{Name: "calicoctl", Version: "1"}, file(t, noise(10))}, Item{Entry{Name: "calicoctl", Version: "2"}, file(t, noise(20))})
	s, _ := logged(t, func(o *Options) { o.Bundles = []string{dir} })
	for _, name := range []string{"calicoctl", "other", ""} {
		if path, err := s.Bundled(name); !fault.IsPermanent(err) {
			t.Errorf("Bundled(%q) = %q, %v; want a permanent error", name, path, err)
		}
	}
}

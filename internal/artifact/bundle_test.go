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
)

// file writes data into a new file.
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

func TestBundleIsReadAsItWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	one, two := noise(1000), noise(2000)
	written := bundle(t, dir,
		Item{Entry{Name: "calicoctl", Version: "v3.23.0", SHA256: sumOf(one), Source: "https://user:s3cret@host/x?sig=s3cret"}, file(t, one)},
		Item{Entry{Name: "node-image"}, file(t, two)},
	)
	want := []Entry{
		{Name: "calicoctl", Version: "v3.23.0", SHA256: sumOf(one), Size: 1000, Source: "https://***@host/x?***"},
		{Name: "node-image", SHA256: sumOf(two), Size: 2000},
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

func TestRewrittenBundleHoldsNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	one, two := noise(1000), noise(2000)
	bundle(t, dir, Item{Entry{Name: "a"}, file(t, one)}, Item{Entry{Name: "b"}, file(t, two)})
	// What a power cut leaves of a copy, and what is somebody else's.
	for _, name := range []string{"." + sumOf(one) + "123", "README"} {
		if err := os.WriteFile(filepath.Join(dir, "sha256", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A damaged file is written anew.
	if err := os.WriteFile(filepath.Join(dir, "sha256", sumOf(two)), one, 0o600); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, dir, Item{Entry{Name: "b"}, file(t, two)})
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "sha256"))
	if err != nil || len(entries) != 2 || entries[0].Name() != sumOf(two) && entries[1].Name() != sumOf(two) {
		t.Errorf("the bundle holds %v, %v; want the artifact and README", entries, err)
	}
}

// Until the new manifest is there, the old bundle is whole.
func TestFailedRewriteLeavesTheBundle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	one := noise(1000)
	bundle(t, dir, Item{Entry{Name: "a"}, file(t, one)})
	for what, items := range map[string][]Item{
		"a missing file":       {{Entry{Name: "b"}, file(t, noise(5))}, {Entry{Name: "c"}, filepath.Join(dir, "missing")}},
		"a wrong digest":       {{Entry{Name: "b", SHA256: sumOf(one)}, file(t, noise(5))}},
		"one name twice":       {{Entry{Name: "b"}, file(t, noise(5))}, {Entry{Name: "b"}, file(t, noise(6))}},
		"no name":              {{Entry{}, file(t, noise(5))}},
		"a name with a path":   {{Entry{Name: "../b"}, file(t, noise(5))}},
		"a control character":  {{Entry{Name: "b", Version: "\x1b[2J"}, file(t, noise(5))}},
		"a folder as artifact": {{Entry{Name: "b"}, dir}},
	} {
		if _, err := WriteBundle(t.Context(), dir, items); err == nil {
			t.Errorf("%s was packed", what)
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

func TestVerifyNamesAllThatIsWrong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	b := bundle(t, dir, Item{Entry{Name: "good"}, file(t, noise(10))}, Item{Entry{Name: "changed"}, file(t, noise(20))},
		Item{Entry{Name: "short"}, file(t, noise(30))}, Item{Entry{Name: "gone"}, file(t, noise(40))}, Item{Entry{Name: "link"}, file(t, noise(50))})
	os.WriteFile(b.Path(b.Entries[1]), make([]byte, 20), 0o600)
	os.WriteFile(b.Path(b.Entries[2]), nil, 0o600)
	os.Remove(b.Path(b.Entries[3]))
	os.Remove(b.Path(b.Entries[4]))
	os.Symlink("/etc/hostname", b.Path(b.Entries[4]))
	err := b.Verify(t.Context())
	if err == nil {
		t.Fatal("nothing was found")
	}
	for _, name := range []string{"changed", "short", "gone", "link"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "good") {
		t.Errorf("the good one is named in: %v", err)
	}
}

func TestManifestIsReadStrictly(t *testing.T) {
	sum := sumOf(nil)
	good := `{"schema":1,"artifacts":[{"name":"a","sha256":"` + sum + `","size":0}]}`
	if _, err := decodeManifest([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string]string{
		"nothing":           ``,
		"no JSON":           `{`,
		"another schema":    strings.Replace(good, `"schema":1`, `"schema":2`, 1),
		"no schema":         `{"artifacts":[]}`,
		"an unknown key":    strings.Replace(good, `"size"`, `"siez"`, 1),
		"more after it":     good + good,
		"a path as digest":  strings.Replace(good, sum, "../../../etc/passwd", 1),
		"upper case":        strings.Replace(good, sum, strings.ToUpper(sum), 1),
		"a negative size":   strings.Replace(good, `"size":0`, `"size":-1`, 1),
		"no name":           strings.Replace(good, `"a"`, `""`, 1),
		"one twice":         `{"schema":1,"artifacts":[{"name":"a","sha256":"` + sum + `","size":0},{"name":"a","sha256":"` + sum + `","size":0}]}`,
		"two sizes":         `{"schema":1,"artifacts":[{"name":"a","sha256":"` + sum + `","size":0},{"name":"b","sha256":"` + sum + `","size":1}]}`,
		"too much":          good + strings.Repeat(" ", maxManifest),
		"too many entries":  `{"schema":1,"artifacts":[` + strings.Repeat(`{},`, maxEntries) + `{}]}`,
		"an escape sequenc": strings.Replace(good, `"a"`, `"\u001b[2J"`, 1),
	} {
		if entries, err := decodeManifest([]byte(data)); err == nil {
			t.Errorf("%s was taken for %v", what, entries)
		}
	}
	if _, err := OpenBundle(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenBundle of an empty folder = %v, want fs.ErrNotExist", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schema":1,"artifacts":[{"name":"a","version":"1","sha256":"` + sumOf(nil) + `","size":0,"source":"/x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeManifest(data)
		if err != nil {
			return
		}
		for _, e := range entries {
			if path := (&Bundle{Dir: "/b"}).Path(e); filepath.Dir(path) != "/b/sha256" {
				t.Errorf("%q leaves the bundle", path)
			}
		}
	})
}

func TestBundleComesBeforeTheNetwork(t *testing.T) {
	data := noise(1000)
	dir := filepath.Join(t.TempDir(), "bundle")
	b := bundle(t, dir, Item{Entry{Name: "calicoctl", Version: "v3.23.0"}, file(t, data)})
	url, requests := serve(t, data)
	bundles := []string{filepath.Join(t.TempDir(), "not there"), dir}
	s, log := logged(t, func(o *Options) { o.Bundles = bundles })
	ref := Ref{Name: "calicoctl", URL: url, SHA256: sumOf(data)}
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

	// A damaged bundle is said, never used, and made up for by the network.
	if err := os.WriteFile(inBundle, make([]byte, len(data)), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
	if !strings.Contains(log.String(), "calicoctl") {
		t.Errorf("the damage is not in the log: %q", log)
	}
	if path, err := s.Bundled("calicoctl"); err == nil {
		t.Errorf("Bundled gave out the damaged %s", path)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, log = logged(t, func(o *Options) { o.Bundles = bundles })
	if _, err := s.Get(t.Context(), Ref{Name: "calicoctl", SHA256: ref.SHA256}, nil); !IsPermanent(err) || !strings.Contains(log.String(), dir) {
		t.Errorf("Get = %v, log %q; want it refused and the spoiled bundle named", err, log)
	}
}

func TestBundledRefusesToGuess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle")
	bundle(t, dir, Item{Entry{Name: "calicoctl", Version: "1"}, file(t, noise(10))}, Item{Entry{Name: "calicoctl", Version: "2"}, file(t, noise(20))})
	s, _ := logged(t, func(o *Options) { o.Bundles = []string{dir} })
	for _, name := range []string{"calicoctl", "other", ""} {
		if path, err := s.Bundled(name); !IsPermanent(err) {
			t.Errorf("Bundled(%q) = %q, %v; want a refusal", name, path, err)
		}
	}
}

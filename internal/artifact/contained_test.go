package artifact

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/test/powercut"
)

// TestBundleIsWrittenAndCleanedInsideItsDirectory: an image may contain any link.
func TestBundleIsWrittenAndCleanedInsideItsDirectory(t *testing.T) {
	data := noise(1000)
	other := strings.Repeat("a", 64)
	for name, link := range map[string]func(dir, outside string) error{
		"directory, absolute": func(dir, outside string) error { return os.Symlink(outside, filepath.Join(dir, contentDir)) },
		"directory, relative": func(dir, outside string) error {
			return os.Symlink("../../../../../../../../.."+outside, filepath.Join(dir, contentDir))
		},
		"manifest": func(dir, outside string) error {
			return os.Symlink(filepath.Join(outside, manifestName), filepath.Join(dir, manifestName))
		},
		"file": func(dir, outside string) error {
			if err := os.Mkdir(filepath.Join(dir, contentDir), 0o755); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(outside, other), filepath.Join(dir, contentDir, digestOf(data)))
		},
	} {
		outside, dir := t.TempDir(), t.TempDir()
		for _, kept := range []string{other, manifestName} {
			if err := os.WriteFile(filepath.Join(outside, kept), []byte("of the build machine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := link(dir, outside); err != nil {
			t.Fatal(err)
		}
		b, err := WriteBundle(t.Context(), dir, []Item{{Entry: Entry{Name: "x"}, Path: file(t, data)}})
		if err == nil {
			err = b.Verify(t.Context())
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) != 2 {
			t.Errorf("%s: the directory outside has %v, %v", name, entries, err)
		}
		for _, kept := range []string{other, manifestName} {
			if text, err := os.ReadFile(filepath.Join(outside, kept)); err != nil || string(text) != "of the build machine" {
				t.Errorf("%s: %s has %q, %v", name, kept, text, err)
			}
		}
	}
}

// TestBundleIsNotReadOutsideItsDirectory: nothing of the build machine becomes an
// artifact.
func TestBundleIsNotReadOutsideItsDirectory(t *testing.T) {
	data := noise(1000)
	real, dir := t.TempDir(), t.TempDir()
	if _, err := WriteBundle(t.Context(), real, []Item{{Entry: Entry{Name: "x"}, Path: file(t, data)}}); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(real, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestName), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(real, contentDir), filepath.Join(dir, contentDir)); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(t.Context()); err == nil {
		t.Error("a file outside the bundle is accepted")
	}
	s, _ := logged(t, func(o *Options) { o.Bundles = []string{dir} })
	if path, ok := s.Lookup(Ref{Name: "x", SHA256: digestOf(data)}); ok {
		t.Errorf("Lookup found %s", path)
	}
}

// TestUnusualFilesDoNotBlock: a FIFO where a file is expected is an error at once.
func TestUnusualFilesDoNotBlock(t *testing.T) {
	data := noise(1000)
	dir := t.TempDir()
	if _, err := WriteBundle(t.Context(), dir, []Item{{Entry: Entry{Name: "x"}, Path: file(t, data)}}); err != nil {
		t.Fatal(err)
	}
	fifo := func(path string) string {
		_ = os.Remove(path)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo(filepath.Join(dir, contentDir, digestOf(data)))
	pipe := fifo(filepath.Join(t.TempDir(), "fifo"))
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: "file://" + file(t, data), SHA256: digestOf(data)}
	if err := os.MkdirAll(s.cache, 0o700); err != nil {
		t.Fatal(err)
	}
	fifo(filepath.Join(s.cache, ref.key()+".part"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b, err := OpenBundle(dir)
		if err != nil {
			t.Error(err)
			return
		}
		errs := map[string]error{"bundle": b.Verify(t.Context())}
		_, errs["image archive"] = ReadImageArchive(pipe)
		_, errs["package"] = ReadPackage(pipe)
		errs["key"] = VerifySignature(file(t, pack(t, nil)), pipe)
		_, errs["source"] = s.Get(t.Context(), Ref{Name: "y", URL: "file://" + pipe, SHA256: digestOf(nil)}, nil)
		_, errs["partial file"] = s.Get(t.Context(), ref, nil)
		_, errs["item"] = WriteBundle(t.Context(), t.TempDir(), []Item{{Entry: Entry{Name: "x"}, Path: pipe}})
		fifo(filepath.Join(dir, manifestName))
		_, errs["manifest"] = OpenBundle(dir)
		for name, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("timed out after 20s")
	}
}

// A host reads a bundle that root wrote with any umask.
func TestModesOfABundleDoNotDependOnTheUmask(t *testing.T) {
	data := noise(10)
	dir := filepath.Join(t.TempDir(), "a", "bundle")
	item := Item{Entry: Entry{Name: "x"}, Path: file(t, data)}
	old := unix.Umask(0o077)
	_, err := WriteBundle(t.Context(), dir, []Item{item})
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{"": 0o755, contentDir: 0o755, manifestName: 0o644, contentDir + "/" + digestOf(data): 0o644} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

// TestBundleIsCompletedAfterEveryPowerCut: an existing bundle stays usable until
// the new one is complete, and the next WriteBundle ends with the same files.
func TestBundleIsCompletedAfterEveryPowerCut(t *testing.T) {
	oldFile, newFile := noise(300), noise(500)
	items := []Item{{Entry: Entry{Name: "x", Version: "2"}, Path: file(t, newFile)}}
	root := t.TempDir()
	if _, err := WriteBundle(t.Context(), root, []Item{{Entry: Entry{Name: "x", Version: "1"}, Path: file(t, oldFile)}}); err != nil {
		t.Fatal(err)
	}
	powercut.Test(t, root, nil, func(record host.Option) {
		if _, err := WriteBundle(t.Context(), root, items, record); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, root string) {
		b, err := OpenBundle(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Verify(t.Context()); err != nil {
			t.Errorf("the bundle is not usable: %v", err)
		}
		if b, err = WriteBundle(t.Context(), root, items); err != nil {
			t.Fatal(err)
		}
		wantFile(t, b.Path(b.Entries[0]), newFile)
		names, err := os.ReadDir(filepath.Join(root, contentDir))
		if err != nil || len(names) != 1 {
			t.Errorf("the bundle has the files %v, %v", names, err)
		}
	})
}

// TestEveryBlockOfAKeyringIsRead: a new key is appended to the file of the old one.
func TestEveryBlockOfAKeyringIsRead(t *testing.T) {
	old, current, foreign := key(t, nil), key(t, nil), key(t, nil)
	block := func(e int) []byte {
		data, err := os.ReadFile([]string{armored(t, old), armored(t, current)}[e])
		if err != nil {
			t.Fatal(err)
		}
		return append(data, '\n')
	}
	crlf := bytes.ReplaceAll(append(block(0), block(1)...), []byte("\n"), []byte("\r\n"))
	for name, data := range map[string][]byte{
		"two blocks":   append(block(0), block(1)...),
		"with text":    append(append(append([]byte("our keys\n\n"), block(0)...), "the new one:\n"...), block(1)...),
		"CRLF":         crlf,
		"without feed": append(bytes.TrimSpace(block(0)), append([]byte("\n"), bytes.TrimSpace(block(1))...)...),
	} {
		for who, e := range map[string]func([]byte) ([]byte, error){"old": signer(old, nil), "current": signer(current, nil)} {
			if err := VerifySignature(file(t, pack(t, e)), file(t, data)); err != nil {
				t.Errorf("%s, signed by the %s key: %v", name, who, err)
			}
		}
		if err := VerifySignature(file(t, pack(t, signer(foreign, nil))), file(t, data)); err == nil {
			t.Errorf("%s: a foreign key is accepted", name)
		}
	}
	damaged := append(block(0), block(1)[:200]...)
	if err := VerifySignature(file(t, pack(t, signer(old, nil))), file(t, damaged)); err == nil || !strings.Contains(err.Error(), "block 2 of 2") {
		t.Errorf("a damaged second block: %v", err)
	}
}

// maxFuzzed bounds an input of the fuzz targets, in bytes. Larger ones take longer
// and show nothing else.
const maxFuzzed = 16 << 10

func FuzzDecodeKeyring(f *testing.F) {
	data, err := os.ReadFile(armored(f, key(f, func(c *packet.Config) { c.Algorithm = packet.PubKeyAlgoEdDSA })))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(append(append([]byte{}, data...), data...))
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=twTO\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzzed {
			return
		}
		if keys, err := decodeKeyring(data); err == nil && len(keys) == 0 {
			t.Error("no key, and no error")
		}
	})
}

// FuzzValidators: what was recorded of a server's headers can be sent in a header,
// or is empty.
func FuzzValidators(f *testing.F) {
	for _, seed := range []string{`{"etag":"\"a\"","lastModified":"Mon, 02 Jan 2006 15:04:05 GMT"}`, `{"etag":"a\r\nX: y"}`, `{"etag":1}`, "{", "", "null"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := parseValidators(strings.NewReader(text))
		if strings.ContainsAny(v.ETag+v.LastModified, "\r\n\x00") {
			t.Errorf("%+v", v)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 5-9/10", "bytes 5-9/*", "bytes */10", "5-4/3", "bytes -1-2/3", "bytes 0-9223372036854775807/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if start, total, ok := contentRange(header); ok && (start < 0 || total < 0 || total > 0 && start >= total) {
			t.Errorf("%q: %d of %d", header, start, total)
		}
	})
}

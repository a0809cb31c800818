package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/host"
)

// TestWriteRemovesLeftovers: a write removes the temporary files of interrupted
// writes of the same file, and no others.
func TestWriteRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	create := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	create(".a.conf8124376394753654220")
	create(".a.conf123456")
	kept := []string{".a.conf", ".a.conf123456~", ".a.conf12", ".a.conf.123456", ".b.conf123456", "a.conf123456"}
	for _, name := range kept {
		create(name)
	}
	if err := os.Mkdir(filepath.Join(dir, ".a.conf999999"), 0o700); err != nil {
		t.Fatal(err)
	}
	h := host.New(dir)
	if err := h.WriteFile("/a.conf", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	names, err := h.ReadDir("/")
	want := []string{".a.conf", ".a.conf.123456", ".a.conf12", ".a.conf123456~", ".a.conf999999", ".b.conf123456", "a.conf", "a.conf123456"}
	if d := cmp.Diff(want, names); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}

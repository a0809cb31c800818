package host

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenWithoutOpenat2: kernels without openat2 resolve links inside the root,
// too.
func TestOpenWithoutOpenat2(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{filepath.Join(outside, "secret"): "outside", filepath.Join(root, "file"): "inside"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"absolute": outside, "up": "../../../../../../../.." + outside, "last": outside + "/secret", "inner": "/file"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, open := range map[string]func(string, string, int, os.FileMode) (int, error){"openat2": openIn, "fallback": openResolved} {
		for path, want := range map[string]string{"/inner": "inside", "/file": "inside", "/absolute/secret": "", "/up/secret": "", "/last": "", "/../../file": "inside"} {
			fd, err := open(root, path, unix.O_RDONLY, 0)
			got := ""
			if err == nil {
				f := os.NewFile(uintptr(fd), path) //nolint:gosec // a descriptor is not negative
				data, _ := io.ReadAll(f)
				got = string(data)
				f.Close()
			}
			if got != want {
				t.Errorf("%s: %s has %q, want %q (%v)", name, path, got, want, err)
			}
		}
	}
}

package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/projecteru2/firstboot/internal/host"
)

// image is a root folder with a link out of it: /etc/a leads to a file of the
// machine that looks at the image.
func image(t *testing.T) (h *host.Host, outside string) {
	t.Helper()
	outside = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("of the build machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"etc/a": outside, "etc/d": filepath.Dir(outside), "etc/up": "../../../../../../../../../.." + outside} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(root), outside
}

func TestLinksOfAnImageStayInside(t *testing.T) {
	h, outside := image(t)
	for _, path := range []string{"/etc/a", "/etc/up", "/etc/d/secret"} {
		if data, err := h.ReadFile(path); !host.NotExist(err) {
			t.Errorf("ReadFile(%s) = %q, %v: left the image", path, data, err)
		}
		if _, err := h.Stat(path); !host.NotExist(err) {
			t.Errorf("Stat(%s): left the image", path)
		}
		if data, err := os.ReadFile(h.RealPath(path)); err == nil {
			t.Errorf("RealPath(%s) = %s, with %q: left the image", path, h.RealPath(path), data)
		}
		if _, err := h.SHA256(path); !host.NotExist(err) {
			t.Errorf("SHA256(%s): left the image", path)
		}
	}
	if names, _ := h.ReadDir("/etc/d"); len(names) > 0 {
		t.Errorf("ReadDir(/etc/d) = %v: left the image", names)
	}
	for _, path := range []string{"/etc/a", "/etc/up"} {
		_ = h.Overwrite(path, []byte("new")) // inside the image there is no such folder
	}
	if err := h.WriteFile("/etc/a", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(outside); string(data) != "of the build machine" {
		t.Errorf("a write through a link changed the build machine: %q", data)
	}
}

func TestLinksInsideAnImageAreFollowed(t *testing.T) {
	h, _ := image(t)
	if err := h.WriteFile("/usr/lib/os-release", []byte("ID=debian\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.Symlink("/usr/lib/os-release", "/etc/os-release"); err != nil {
		t.Fatal(err)
	}
	if data, err := h.ReadFile("/etc/os-release"); err != nil || string(data) != "ID=debian\n" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
}

func TestOverwriteKeepsTheFile(t *testing.T) {
	h := host.New(t.TempDir())
	path := h.RealPath("/id")
	if err := os.WriteFile(path, []byte("old and longer"), 0o604); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Overwrite("/id", []byte("new")); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() {
		t.Errorf("another file: %v, %v", after, err)
	}
	if data, _ := os.ReadFile(path); string(data) != "new" {
		t.Errorf("it holds %q", data)
	}
}

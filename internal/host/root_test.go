package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/projecteru2/firstboot/internal/host"
)

// imageRoot returns a root directory with links that point out of it, such as
// /etc/a to the file outside, which belongs to the build machine.
func imageRoot(t *testing.T) (h *host.Host, outside string) {
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

func TestLinksAreResolvedInsideTheRoot(t *testing.T) {
	h, outside := imageRoot(t)
	for _, path := range []string{"/etc/a", "/etc/up", "/etc/d/secret"} {
		if data, err := h.ReadFile(path); !host.NotExist(err) {
			t.Errorf("ReadFile(%s) = %q, %v: outside the image", path, data, err)
		}
		if _, err := h.Stat(path); !host.NotExist(err) {
			t.Errorf("Stat(%s): outside the image", path)
		}
		if data, err := os.ReadFile(h.RealPath(path)); err == nil {
			t.Errorf("RealPath(%s) = %s, with %q: outside the image", path, h.RealPath(path), data)
		}
		if _, err := h.SHA256(path); !host.NotExist(err) {
			t.Errorf("SHA256(%s): outside the image", path)
		}
	}
	if names, _ := h.ReadDir("/etc/d"); len(names) > 0 {
		t.Errorf("ReadDir(/etc/d) = %v: outside the image", names)
	}
	for _, path := range []string{"/etc/a", "/etc/up"} {
		_ = h.Overwrite(path, []byte("new")) // fails: the image has no such directory
	}
	if err := h.WriteFile("/etc/a", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(outside); string(data) != "of the build machine" {
		t.Errorf("a write through a link changed the file outside: %q", data)
	}
}

func TestAbsoluteLinkIsFollowedInsideTheRoot(t *testing.T) {
	h, _ := imageRoot(t)
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

func TestOverwriteKeepsInodeAndMode(t *testing.T) {
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
		t.Errorf("the file was replaced: %v, %v", after, err)
	}
	if data, _ := os.ReadFile(path); string(data) != "new" {
		t.Errorf("content %q", data)
	}
}

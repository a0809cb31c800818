package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/host"
)

// TestModesDoNotDependOnTheUmask: networkd must be able to read its directory.
func TestModesDoNotDependOnTheUmask(t *testing.T) {
	for _, umask := range []int{0o077, 0o777, 0} {
		old := unix.Umask(umask)
		root := t.TempDir()
		h := host.New(filepath.Join(root, "not", "yet"))
		err := errors.Join(
			h.WriteFile("/etc/systemd/network/10-calico.link", []byte("x"), 0o644),
			h.WriteFile("/etc/secret", []byte("x"), 0o600),
			h.InstallFile("/etc/hostname", "/usr/bin/program", 0o755),
			h.InstallProgram(host.Program{Source: "/etc/hostname", Path: "/opt/bin/program"}, func(string) error { return nil }),
			h.WriteFile("/var/lib/firstboot/bundle/manifest.json", []byte("{}"), 0o644),
			h.Overwrite("/etc/machine-id", []byte("x")),
		)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]os.FileMode{
			"/": 0o755, "/etc": 0o755, "/etc/systemd": 0o755, "/etc/systemd/network": 0o755, "/var/lib": 0o755,
			"/var/lib/firstboot": 0o700, "/var/lib/firstboot/bundle": 0o755,
			"/etc/systemd/network/10-calico.link": 0o644, "/etc/secret": 0o600, "/usr/bin/program": 0o755,
			"/opt/bin/program": 0o755, "/etc/machine-id": 0o644,
		} {
			if info, err := h.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("umask %04o: %s has the mode %v, want %v (%v)", umask, path, info.Mode().Perm(), want, err)
			}
		}
	}
}

// TestStateDirIsPrivate: it is private, also behind a link, and an existing one
// of an earlier version becomes so.
func TestStateDirIsPrivate(t *testing.T) {
	root := t.TempDir()
	h := host.New(root)
	mode := func() os.FileMode {
		t.Helper()
		info, err := h.Stat(host.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if err := h.ProtectStateDir(); err != nil || h.Exists(host.StateDir) {
		t.Errorf("a missing directory: %v", err)
	}
	if err := errors.Join(h.Symlink("/srv/firstboot", host.StateDir), h.MkdirAll(host.StateDir)); err != nil || mode() != 0o700 {
		t.Errorf("behind a link: %v, %v", mode(), err)
	}
	if err := os.Chmod(filepath.Join(root, "srv/firstboot"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.ProtectStateDir(); err != nil || mode() != 0o700 {
		t.Errorf("an existing directory: %v, %v", mode(), err)
	}
}

// TestUnusualFilesDoNotBlock: a FIFO, device or endless file instead of a regular
// file is an error at once.
func TestUnusualFilesDoNotBlock(t *testing.T) {
	root := t.TempDir()
	h := host.New(root)
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	huge, err := os.Create(filepath.Join(root, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(huge.Truncate(1<<40), huge.Close()); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/fifo", "/directory", "/huge"}
	if os.Geteuid() == 0 {
		if err := unix.Mknod(filepath.Join(root, "zero"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))); err == nil {
			paths = append(paths, "/zero")
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, path := range paths {
			if _, err := h.ReadFile(path); err == nil {
				t.Errorf("ReadFile(%s) succeeded", path)
			}
			if path == "/huge" {
				continue
			}
			if _, err := h.SHA256(path); err == nil {
				t.Errorf("SHA256(%s) succeeded", path)
			}
			if err := h.Overwrite(path, []byte("x")); err == nil {
				t.Errorf("Overwrite(%s) succeeded", path)
			}
			if err := h.InstallFile(filepath.Join(root, path), "/copy", 0o600); err == nil {
				t.Errorf("InstallFile(%s) succeeded", path)
			}
			if _, err := h.Open(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("Open(%s): %v", path, err)
			}
		}
		// A FIFO is replaced by what is written.
		if err := h.WriteFile("/fifo", []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("timed out after 20s")
	}
}

func TestRemoveAllDoesNotFollowLinks(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, dir := range []string{"d/a/b", "d/c"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"d/out", "d/a/out", "d/a/b/out"} {
		if err := os.Symlink(outside, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	h := host.New(root)
	if err := h.RemoveAll("/d"); err != nil || h.Exists("/d") {
		t.Errorf("%v, exists %v", err, h.Exists("/d"))
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Error(err)
	}
	if err := h.RemoveAll("/d"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

package nspawn

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

//go:embed rootfs.go
var recipe string

const (
	suite = "bookworm"
)

// packages are what a host has that firstboot's units meet: the real Docker
// and the real cloud-init among them. python3 comes with cloud-init.
var packages = []string{
	"ca-certificates", "cloud-init", "dbus", "docker.io", "iproute2", "iptables", "iputils-ping", "kmod",
	"openssh-server", "rpm", "systemd", "systemd-sysv", "udev",
}

// identity is what Debian's packages made when they were installed, which a
// machine makes by itself.
var identity = []string{"/etc/hostname", "/etc/resolv.conf", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed"}

// rootfs returns the folder of a Debian 12, from the cache or built (about a
// minute). It is never written to: machines have overlays over it.
func rootfs(ctx context.Context, store cache.Store) (string, error) {
	dir, err := store.Get(ctx, "nspawn-root", cache.Key(recipe), func(ctx context.Context, dir string) error {
		return buildRootfs(ctx, filepath.Join(dir, "root"))
	})
	return filepath.Join(dir, "root"), err
}

func buildRootfs(ctx context.Context, root string) error {
	err := run(ctx, "mmdebstrap", "--variant=minbase", "--mode=root", "--include="+strings.Join(packages, ","),
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		suite, root)
	if err != nil {
		return err
	}
	for _, path := range identity {
		if err := os.Remove(filepath.Join(root, path)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "etc/machine-id"), nil, 0o444)
}

// run runs a command of this machine; what it says is shown only if it fails.
func run(ctx context.Context, name string, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "CGO_ENABLED=0", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(said.String())
		return fmt.Errorf("%s failed: %w\n%s", name, err, text[max(0, len(text)-4<<10):])
	}
	return nil
}

// Package rootfs builds root folders of Debian 12 for machines of tests, each
// once: it is the lab's cache that they are asked for.
package rootfs

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

//go:embed rootfs.go
var recipe string

const (
	suite = "bookworm"
	// maxSaid is how much of a failed mmdebstrap's output an error shows, in
	// bytes.
	maxSaid = 4 << 10
)

// basic is what every machine has: PID 1, and what a boot needs.
var basic = []string{"dbus", "iproute2", "systemd-sysv", "udev"}

// identity is what Debian's packages made when they were installed, which a
// machine makes by itself.
var identity = []string{"/etc/hostname", "/etc/resolv.conf", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed"}

// Debian returns the folder of a Debian with systemd and these packages, and
// with an empty machine-id, from the cache or built (one to two minutes, by
// root). Nobody may write to it: machines have overlays over it.
func Debian(ctx context.Context, store cache.Store, packages ...string) (string, error) {
	list := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(basic), packages...))))
	dir, err := store.Get(ctx, "rootfs", cache.Key(append([]string{recipe}, list...)...), func(ctx context.Context, dir string) error {
		return build(ctx, filepath.Join(dir, "root"), list)
	})
	return filepath.Join(dir, "root"), err
}

func build(ctx context.Context, root string, packages []string) error {
	err := mmdebstrap(ctx, "--variant=minbase", "--mode=root", "--format=directory", "--include="+strings.Join(packages, ","),
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

// mmdebstrap runs it; what it says is shown only if it fails.
func mmdebstrap(ctx context.Context, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	// It has children that must end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(said.String())
		return fmt.Errorf("cannot build a root folder: mmdebstrap failed: %w\n%s", err, text[max(0, len(text)-maxSaid):])
	}
	return nil
}

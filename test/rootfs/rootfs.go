// Package rootfs builds Debian 12 root directories for test machines and keeps
// them in the lab's cache.
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
	// maxOutput limits how much of a failed mmdebstrap's output an error
	// shows, in bytes.
	maxOutput = 4 << 10
)

// basic are the packages that every machine needs to boot.
var basic = []string{"dbus", "iproute2", "systemd-sysv", "udev"}

// identity are files that the installation of Debian's packages creates and
// that each machine must create itself.
var identity = []string{"/etc/hostname", "/etc/resolv.conf", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed"}

// Debian returns the root directory of a Debian with systemd, these packages and
// an empty machine-id. If it is not in the cache, Debian builds it, which takes
// one to two minutes and needs root. Do not write to the directory: machines use
// it as the lower layer of an overlay.
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

// mmdebstrap runs mmdebstrap. The error contains the end of its output.
func mmdebstrap(ctx context.Context, args ...string) error {
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	// Its children must be terminated with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(output.String())
		return fmt.Errorf("cannot build a root directory: mmdebstrap failed: %w\n%s", err, text[max(0, len(text)-maxOutput):])
	}
	return nil
}

package golden

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

// The sources that decide what the system is: its key in the cache.
//
//go:embed system.go initrd.go files
var systemSources embed.FS

const (
	suite = "bookworm"
	// diskSize is the disk's size for the machine; the file is sparse.
	diskSize = 8 << 30
)

// packages are what a bare host of the operators has: Docker, rpm, a way in.
var packages = []string{
	"ca-certificates", "dbus", "docker.io", "iproute2", "iptables", "iputils-ping", "kmod",
	"linux-image-cloud-amd64", "openssh-server", "rpm", "systemd", "systemd-sysv", "udev",
	"busybox-static", // for the initrd, and for containers that ping
}

// enabled are the units that Debian leaves to the administrator.
var enabled = []string{"systemd-networkd.service", "systemd-network-generator.service", "lab-hostkey.service"}

// masked are units that a machine of the lab has no use for; each costs some
// hundred milliseconds of its boot.
var masked = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
	"fstrim.timer", "systemd-tmpfiles-clean.timer", "systemd-pstore.service", "systemd-random-seed.service",
	"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-logind.service",
	"getty@tty1.service", "modprobe@.service", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount",
	"sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
	"proc-sys-fs-binfmt_misc.automount",
}

// cloned are what Debian's packages made when they were installed, which two
// machines must not have in common.
var cloned = []string{"/etc/hostname", "/etc/resolv.conf", "/etc/ssh/ssh_host_*", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed"}

// system builds Debian: a disk, its kernel and an initrd.
func (o Options) system(ctx context.Context) (Image, string, error) {
	key, err := sourceKey(systemSources)
	if err != nil {
		return Image{}, "", err
	}
	dir, err := o.Store.Get(ctx, "system", key, o.buildSystem)
	return imageIn(dir), key, err
}

// sourceKey is the key of what these sources build.
func sourceKey(sources embed.FS, more ...string) (string, error) {
	inputs := more
	err := fs.WalkDir(sources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := sources.ReadFile(path)
		inputs = append(inputs, path, string(data))
		return err
	})
	return cache.Key(inputs...), err
}

func (o Options) buildSystem(ctx context.Context, dir string) error {
	root := filepath.Join(dir, "root")
	target := []string{suite, root}
	if o.Mirror != "" {
		target = append(target, o.Mirror)
	}
	err := run(ctx, "mmdebstrap", append([]string{"--variant=minbase", "--mode=root", "--include=" + strings.Join(packages, ","),
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
	}, target...)...)
	if err != nil {
		return err
	}
	i := imageIn(dir)
	if err := takeKernel(root, i); err != nil {
		return fmt.Errorf("cannot take the kernel out of the image: %w", err)
	}
	if err := settle(ctx, root); err != nil {
		return fmt.Errorf("cannot set the image up: %w", err)
	}
	if err := makeDisk(ctx, root, i.Disk, diskSize); err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// takeKernel moves the kernel out of /boot, as it is booted directly, and makes
// the initrd from modules and busybox of the image.
func takeKernel(root string, i Image) error {
	found, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%d kernels in /boot, want one", len(found))
	}
	release := strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	if err := makeInitrd(root, release, i.Initrd); err != nil {
		return err
	}
	if err := os.Rename(found[0], i.Kernel); err != nil {
		return err
	}
	return emptyFolder(filepath.Join(root, "boot"))
}

func emptyFolder(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var all []error
	for _, e := range list {
		all = append(all, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(all...)
}

// settle makes Debian the lab's machine: its own files, units, no identity.
func settle(ctx context.Context, root string) error {
	for _, pattern := range cloned {
		list, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, path := range list {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	// Empty: systemd makes one and keeps it (machine-id(5)).
	if err := put(root, File{Path: "/etc/machine-id", Mode: 0o444}); err != nil {
		return err
	}
	if err := copyFiles(root); err != nil {
		return err
	}
	// On the serial console root needs no password; by SSH only the lab's key
	// is taken.
	if err := run(ctx, "chroot", root, "passwd", "--delete", "root"); err != nil {
		return err
	}
	if err := run(ctx, "chroot", append([]string{root, "systemctl", "mask", "--quiet"}, masked...)...); err != nil {
		return err
	}
	return run(ctx, "chroot", append([]string{root, "systemctl", "enable", "--quiet"}, enabled...)...)
}

// copyFiles puts the folder files into the image. Scripts become executable.
func copyFiles(root string) error {
	return fs.WalkDir(systemSources, "files", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := systemSources.ReadFile(path)
		if err != nil {
			return err
		}
		f := File{Path: strings.TrimPrefix(path, "files"), Data: data}
		if strings.HasPrefix(string(data), "#!") {
			f.Mode = 0o755
		}
		return put(root, f)
	})
}

// makeDisk makes a file an ext4 file system with what is in a folder.
func makeDisk(ctx context.Context, folder, path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	return run(ctx, "mkfs.ext4", "-q", "-J", "size=16", "-d", folder, path)
}

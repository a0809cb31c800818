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

// systemSources are the inputs of the system's cache key.
//
//go:embed system.go initrd.go release.go files files-bookworm files-trixie
var systemSources embed.FS

// diskSize is the disk's size for the machine; the file is sparse.
const diskSize = 8 << 30

// enabledUnits are units that Debian does not enable by default.
var enabledUnits = []string{"systemd-networkd.service", "systemd-network-generator.service", "lab-hostkey.service"}

// identityFiles are created when Debian's packages are installed. Two machines
// must not share them.
var identityFiles = []string{"/etc/hostname", "/etc/resolv.conf", "/etc/ssh/ssh_host_*", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed"}

// system builds a Debian disk, and extracts its kernel and an initrd.
func (o Options) system(ctx context.Context) (Image, string, error) {
	key, err := sourceKey(systemSources, string(o.Release))
	if err != nil {
		return Image{}, "", err
	}
	dir, err := o.Store.Get(ctx, "system", key, o.buildSystem)
	return o.Release.imageIn(dir), key, err
}

// sourceKey returns a cache key made from the sources and more inputs.
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
	target := []string{string(o.Release), root}
	if o.Mirror != "" {
		target = append(target, o.Mirror)
	}
	err := run(ctx, "mmdebstrap", append([]string{"--variant=minbase", "--mode=root", "--include=" + strings.Join(o.Release.packages(), ","),
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
	}, target...)...)
	if err != nil {
		return err
	}
	i := o.Release.imageIn(dir)
	if err := extractKernel(root, i); err != nil {
		return fmt.Errorf("cannot extract the kernel: %w", err)
	}
	if err := o.Release.configure(ctx, root); err != nil {
		return fmt.Errorf("cannot configure the system: %w", err)
	}
	if err := makeDisk(ctx, root, i.Disk, diskSize); err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// extractKernel moves the kernel out of /boot, because QEMU boots it directly.
// It makes the initrd from the image's modules and busybox.
func extractKernel(root string, i Image) error {
	found, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("found %d kernels in /boot, want 1", len(found))
	}
	release := strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	if err := makeInitrd(root, release, i.Initrd); err != nil {
		return err
	}
	if err := os.Rename(found[0], i.Kernel); err != nil {
		return err
	}
	return emptyDir(filepath.Join(root, "boot"))
}

func emptyDir(dir string) error {
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

// configure adds the lab's files and units to Debian, and removes the machine
// identity.
func (r Release) configure(ctx context.Context, root string) error {
	for _, pattern := range identityFiles {
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
	// If the file is empty, systemd writes a machine ID to it (machine-id(5)).
	if err := writeFile(root, File{Path: "/etc/machine-id", Mode: 0o444}); err != nil {
		return err
	}
	// With these files systemd does not update /etc and /var at the first boot
	// (systemd-update-done.service(8)).
	for _, path := range []string{"/etc/.updated", "/var/.updated"} {
		if err := writeFile(root, File{Path: path}); err != nil {
			return err
		}
	}
	for _, dir := range []string{"files", "files-" + string(r)} {
		if err := copyFiles(root, dir); err != nil {
			return err
		}
	}
	if err := removeProfiles(root); err != nil {
		return err
	}
	// root needs no password on the serial console. SSH accepts only the lab's
	// key.
	if err := run(ctx, "chroot", root, "passwd", "--delete", "root"); err != nil {
		return err
	}
	if err := run(ctx, "chroot", append([]string{root, "systemctl", "mask", "--quiet"}, r.maskedUnits()...)...); err != nil {
		return err
	}
	return run(ctx, "chroot", append([]string{root, "systemctl", "enable", "--quiet"}, enabledUnits...)...)
}

// profilesDir holds AppArmor's profiles, one per file. Debian 13 has a hundred,
// most of them for programs that the image lacks. Compiling all of them takes 15
// seconds of the first boot.
const profilesDir = "etc/apparmor.d"

// removeProfiles removes the AppArmor profiles of programs that the image lacks. A
// profile is named after its program: runc, usr.bin.man.
func removeProfiles(root string) error {
	list, err := os.ReadDir(filepath.Join(root, profilesDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []error
	for _, e := range list {
		name := e.Name()[strings.LastIndex(e.Name(), ".")+1:]
		programs, err := filepath.Glob(filepath.Join(root, "usr/*bin", name))
		if err == nil && !e.IsDir() && len(programs) == 0 {
			err = os.Remove(filepath.Join(root, profilesDir, e.Name()))
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// copyFiles copies a directory of systemSources into the image. Scripts become
// executable.
func copyFiles(root, dir string) error {
	return fs.WalkDir(systemSources, dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := systemSources.ReadFile(path)
		if err != nil {
			return err
		}
		f := File{Path: strings.TrimPrefix(path, dir), Data: data}
		if strings.HasPrefix(string(data), "#!") {
			f.Mode = 0o755
		}
		return writeFile(root, f)
	})
}

// makeDisk writes an ext4 image with the contents of a directory.
func makeDisk(ctx context.Context, dir, path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	return run(ctx, "mkfs.ext4", "-q", "-J", "size=16", "-d", dir, path)
}

//go:build lab

package provisioning

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/golden"
)

//go:embed bootable_test.go
var bootableSources embed.FS

// goldenMB is the size of the golden image's file system, which contains 760 MB.
// It grows to the size of the disk at the first boot.
const goldenMB = 1000

// countScript makes iptables count new outgoing connections. It runs before
// firstboot. There are separate counters for etcd, the report and BGP. Not
// counted are local traffic, containers, IGMP (multicast reports of the kernel)
// and replies of sshd, whose older connections would look new.
const countScript = `#!/bin/sh
set -e
iptables -t mangle -N COUNT
iptables -t mangle -A COUNT -o lo -j RETURN
iptables -t mangle -A COUNT -o cali+ -j RETURN
iptables -t mangle -A COUNT -p igmp -j RETURN
iptables -t mangle -A COUNT -p tcp --sport 22 -j RETURN
iptables -t mangle -A COUNT -p tcp --dport 179 -m comment --comment bgp -j RETURN
iptables -t mangle -A COUNT -d %[1]s -p tcp --dport 2379 -m comment --comment etcd -j RETURN
iptables -t mangle -A COUNT -d %[1]s -p tcp --dport 8081 -m comment --comment report -j RETURN
iptables -t mangle -A COUNT -m comment --comment elsewhere
iptables -t mangle -A OUTPUT -m conntrack --ctstate NEW -j COUNT
`

// extlinux boots the same kernel as the lab's other machines, which QEMU boots
// directly. The disk is a single file system with a boot sector.
const extlinux = `SERIAL 0 115200
DEFAULT linux
LABEL linux
  LINUX /boot/vmlinuz
  INITRD /boot/initrd
  APPEND root=/dev/vda rw console=ttyS0 %s
`

// fromDHCP is a .network file that configures eth0 by DHCP.
const fromDHCP = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n" + "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"

// goldenImage bakes and seals a golden image with a boot loader, compresses it,
// and returns its path.
func (e *environment) goldenImage(ctx context.Context) (string, error) {
	own, err := bootableSources.ReadFile("bootable_test.go")
	if err != nil {
		return "", err
	}
	contents, err := cache.Contents(e.lab.Firstboot, e.config)
	if err != nil {
		return "", err
	}
	from, err := e.lab.ImageFrom(ctx, e.lab.Image, "baked-root", []string{string(own), contents}, e.bake)
	if err != nil {
		return "", err
	}
	dir, err := e.store().Get(ctx, "baked-image", from.Key, func(ctx context.Context, dir string) error {
		raw := filepath.Join(dir, "golden.raw")
		err := golden.WithMountedReadOnly(ctx, from.Disk, func(root string) error {
			_, err := run(ctx, "mkfs.ext4", "-q", "-O", "^64bit", "-J", "size=16", "-d", root, raw, fmt.Sprintf("%dM", goldenMB))
			return err
		})
		if err != nil {
			return err
		}
		err = golden.WithMounted(ctx, raw, func(root string) error {
			_, err := run(ctx, "extlinux", "--install", filepath.Join(root, "boot/extlinux"))
			return err
		})
		if err != nil {
			return err
		}
		_, err = run(ctx, "zstd", "-q", "-T0", "--rm", raw)
		return err
	})
	return filepath.Join(dir, "golden.raw.zst"), err
}

// bake installs and seals firstboot in a bare host's root directory, as
// docs/golden-image.md describes. It adds the counting script and the files
// needed to boot.
func (e *environment) bake(ctx context.Context, root string) error {
	err := writeFiles(root, map[string]string{
		"/etc/fstab":                                         "/dev/vda / ext4 defaults,x-systemd.growfs 0 0\n",
		"/etc/systemd/network/80-eth0.network":               fromDHCP,
		"/usr/lib/lab/count":                                 fmt.Sprintf(countScript, e.lab.Net.Gateway()),
		"/etc/systemd/system/firstboot.service.d/count.conf": "[Service]\nExecStartPre=/usr/lib/lab/count\n",
		"/boot/extlinux/extlinux.conf":                       fmt.Sprintf(extlinux, e.lab.Image.Release.KernelArguments()),
	})
	if err != nil {
		return err
	}
	for name, path := range map[string]string{"vmlinuz": e.lab.Image.Kernel, "initrd": e.lab.Image.Initrd} {
		if _, err := run(ctx, "cp", path, filepath.Join(root, "boot", name)); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"bake", "--config", e.config, "--bundle", e.bundle},
		{"seal"},
		{"seal", "--check"},
	} {
		if _, err := run(ctx, e.lab.Firstboot, append(args, "--root", root)...); err != nil {
			return err
		}
	}
	return nil
}

func (e *environment) store() cache.Store { return cache.Open(e.log) }

// livePackages are the packages that the live system needs to write a disk.
const livePackages = "systemd-sysv,udev,iproute2,kmod"

// liveModules are the kernel modules for the disk and the network interface,
// which are not built in.
var liveModules = []string{"drivers/virtio", "drivers/block/virtio_blk.ko", "drivers/net/virtio_net.ko", "drivers/net/net_failover.ko", "net/core/failover.ko"}

// liveRoot builds the live system, an initrd that contains a whole Debian with
// firstboot, and returns its path.
func (e *environment) liveRoot(ctx context.Context) (string, error) {
	own, err := bootableSources.ReadFile("bootable_test.go")
	if err != nil {
		return "", err
	}
	key := cache.Key(string(own), e.lab.Image.Key)
	system, err := e.store().Get(ctx, "live-system", key, e.buildLive)
	if err != nil {
		return "", err
	}
	contents, err := cache.Contents(e.lab.Firstboot)
	if err != nil {
		return "", err
	}
	dir, err := e.store().Get(ctx, "live-initrd", cache.Key(key, contents), func(ctx context.Context, dir string) error {
		root := filepath.Join(dir, "root")
		for _, args := range [][]string{
			{"cp", "-a", filepath.Join(system, "root"), root},
			{e.lab.Firstboot, "bake", "--root", root, "--no-config"},
			{"sh", "-c", "cd " + root + " && find . | cpio -o -H newc --quiet | zstd -q -T0 -o ../initrd.img"},
		} {
			if _, err := run(ctx, args[0], args[1:]...); err != nil {
				return err
			}
		}
		return os.RemoveAll(root)
	})
	return filepath.Join(dir, "initrd.img"), err
}

// buildLive builds a Debian without a kernel. The kernel and its modules come
// from the lab's image.
func (e *environment) buildLive(ctx context.Context, dir string) error {
	root := filepath.Join(dir, "root")
	target := []string{"bookworm", root}
	if mirror := os.Getenv("DEBIAN_MIRROR"); mirror != "" {
		target = append(target, mirror)
	}
	_, err := run(ctx, "mmdebstrap", append([]string{"--quiet", "--variant=minbase", "--mode=root", "--include=" + livePackages,
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"}, target...)...)
	if err != nil {
		return err
	}
	err = golden.WithMountedReadOnly(ctx, e.lab.Image.Disk, func(image string) error { return copyModules(ctx, image, root) })
	if err != nil {
		return err
	}
	err = writeFiles(root, map[string]string{
		"/etc/fstab":                           "",
		"/etc/hostname":                        "live\n",
		"/etc/systemd/network/80-eth0.network": fromDHCP,
	})
	if err != nil {
		return err
	}
	if err := os.Symlink("sbin/init", filepath.Join(root, "init")); err != nil {
		return err
	}
	_, err = run(ctx, "chroot", root, "systemctl", "enable", "--quiet", "systemd-networkd.service")
	return err
}

// copyModules copies liveModules from an image into a root directory.
func copyModules(ctx context.Context, image, root string) error {
	found, err := filepath.Glob(filepath.Join(image, "usr/lib/modules/*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("found %d kernels in the image, want 1", len(found))
	}
	to := filepath.Join(root, "usr/lib/modules", filepath.Base(found[0]))
	var all []error
	for _, name := range liveModules {
		path := filepath.Join(to, "kernel", name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			_, err = run(ctx, "cp", "-a", filepath.Join(found[0], "kernel", name), filepath.Dir(path))
		}
		all = append(all, err)
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		_, err := run(ctx, "cp", filepath.Join(found[0], name), to)
		all = append(all, err)
	}
	_, err = run(ctx, "depmod", "--basedir", root, filepath.Base(found[0]))
	return errors.Join(append(all, err)...)
}

//go:build lab

package ways

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

// goldenMB is the size of the golden image's file system, which grows to that
// of its disk at the first boot. It holds 760 MB.
const goldenMB = 1000

// count is set up before the run: what this host begins to say to others. Apart
// are etcd, the report, BGP with the cluster's other hosts, its own containers,
// IGMP, by which the kernel itself reports multicast groups, and answers of sshd
// to the lab: connections that are older than the count look new to it.
const count = `#!/bin/sh
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

// extlinux boots the kernel that the lab's other machines are booted with
// directly. The disk is one file system, with a boot sector.
const extlinux = `SERIAL 0 115200
DEFAULT linux
LABEL linux
  LINUX /boot/vmlinuz
  INITRD /boot/initrd
  APPEND root=/dev/vda rw console=ttyS0 ` + golden.KernelArguments + "\n"

// fromDHCP: address and routes come from the network.
const fromDHCP = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n" + "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"

// goldenImage bakes and seals a golden image with a boot loader, packs it, and
// returns its path.
func (s *site) goldenImage(ctx context.Context) (string, error) {
	own, err := bootableSources.ReadFile("bootable_test.go")
	if err != nil {
		return "", err
	}
	contents, err := cache.Contents(s.l.Firstboot, s.config)
	if err != nil {
		return "", err
	}
	from, err := s.l.ImageFrom(ctx, s.l.Image, "baked-root", []string{string(own), contents}, s.bake)
	if err != nil {
		return "", err
	}
	dir, err := s.store().Get(ctx, "baked-image", from.Key, func(ctx context.Context, dir string) error {
		raw := filepath.Join(dir, "golden.raw")
		err := golden.Read(ctx, from.Disk, func(root string) error {
			_, err := run(ctx, "mkfs.ext4", "-q", "-O", "^64bit", "-J", "size=16", "-d", root, raw, fmt.Sprintf("%dM", goldenMB))
			return err
		})
		if err != nil {
			return err
		}
		err = golden.Mounted(ctx, raw, func(root string) error {
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

// bake makes a bare host's root a golden image's, as docs/golden-image.md has
// it, with what the lab counts and boots by.
func (s *site) bake(ctx context.Context, root string) error {
	err := write(root, map[string]string{
		"/etc/fstab":                                         "/dev/vda / ext4 defaults,x-systemd.growfs 0 0\n",
		"/etc/systemd/network/80-eth0.network":               fromDHCP,
		"/usr/lib/lab/count":                                 fmt.Sprintf(count, s.l.Wire.Gateway()),
		"/etc/systemd/system/firstboot.service.d/count.conf": "[Service]\nExecStartPre=/usr/lib/lab/count\n",
		"/boot/extlinux/extlinux.conf":                       extlinux,
	})
	if err != nil {
		return err
	}
	for name, path := range map[string]string{"vmlinuz": s.l.Image.Kernel, "initrd": s.l.Image.Initrd} {
		if _, err := run(ctx, "cp", path, filepath.Join(root, "boot", name)); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"bake", "--config", s.config, "--bundle", s.bundle},
		{"seal"},
		{"seal", "--check"},
	} {
		if _, err := run(ctx, s.l.Firstboot, append(args, "--root", root)...); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) store() cache.Store { return cache.Open(s.log) }

// livePackages are what a root in memory needs to write a disk.
const livePackages = "systemd-sysv,udev,iproute2,kmod"

// liveModules are those of the kernel that it needs besides the ones built in:
// disk and card.
var liveModules = []string{"drivers/virtio", "drivers/block/virtio_blk.ko", "drivers/net/virtio_net.ko", "drivers/net/net_failover.ko", "net/core/failover.ko"}

// liveRoot builds a live root with firstboot in it, as an initrd that is a whole
// system, and returns the path.
func (s *site) liveRoot(ctx context.Context) (string, error) {
	own, err := bootableSources.ReadFile("bootable_test.go")
	if err != nil {
		return "", err
	}
	key := cache.Key(string(own), s.l.Image.Key)
	system, err := s.store().Get(ctx, "live-system", key, s.buildLive)
	if err != nil {
		return "", err
	}
	contents, err := cache.Contents(s.l.Firstboot)
	if err != nil {
		return "", err
	}
	dir, err := s.store().Get(ctx, "live-initrd", cache.Key(key, contents), func(ctx context.Context, dir string) error {
		root := filepath.Join(dir, "root")
		for _, args := range [][]string{
			{"cp", "-a", filepath.Join(system, "root"), root},
			{s.l.Firstboot, "bake", "--root", root, "--no-config"},
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

// buildLive builds Debian without a kernel of its own: that comes from the
// lab's image, with the modules that are needed.
func (s *site) buildLive(ctx context.Context, dir string) error {
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
	err = golden.Read(ctx, s.l.Image.Disk, func(image string) error { return takeModules(ctx, image, root) })
	if err != nil {
		return err
	}
	err = write(root, map[string]string{
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

// takeModules copies the modules of an image's kernel into a root.
func takeModules(ctx context.Context, image, root string) error {
	found, err := filepath.Glob(filepath.Join(image, "usr/lib/modules/*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%d kernels in the image, want one", len(found))
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

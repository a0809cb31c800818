// Package nspawn boots a Debian with the real systemd as PID 1, Docker,
// cloud-init and firstboot in it, in about a second, without a virtual machine:
// to see firstboot's units among those that they will meet. Such a machine has
// no kernel of its own, so a run cannot come through (nf_conntrack_max is
// read-only, privileged containers fail): that is the virtual machines' part.
package nspawn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/cgroup"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/procs"
	"github.com/projecteru2/firstboot/test/program"
	"github.com/projecteru2/firstboot/test/rootfs"
	"github.com/projecteru2/firstboot/units"
)

// Gateway is every machine's default route, and where etcd listens.
const Gateway = "10.99.0.1"

// namePrefix begins the names, followed by this process's pid, of what is
// visible outside: the network namespace and the control groups.
const namePrefix = "fbnspawn-"

// nspawnDir is where systemd-nspawn keeps locks and mount points.
const nspawnDir = "/run/systemd/nspawn"

// packages are what a host has that firstboot's units meet: the real Docker
// and the real cloud-init among them. python3 comes with cloud-init.
func packages() []string {
	return []string{"ca-certificates", "cloud-init", "docker.io", "iptables", "iputils-ping", "kmod", "openssh-server", "rpm"}
}

// Site is what machines have in common: their root file system, and a network
// that leads nowhere, with an etcd that a test starts when it likes.
type Site struct {
	Etcd *labnet.Etcd

	dir    string
	lower  string // overlayfs's lowerdir
	group  *procs.Group
	net    *labnet.Network
	serial int
}

// Open builds what is needed below dir. The caller closes the site.
func Open(ctx context.Context, dir string, log cache.Logf) (*Site, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot boot machines: not root")
	}
	root, err := rootfs.Debian(ctx, cache.Open(log), packages()...)
	if err != nil {
		return nil, err
	}
	layer := filepath.Join(dir, "firstboot")
	if err := firstbootLayer(ctx, layer); err != nil {
		return nil, err
	}
	sweep()
	s := &Site{dir: dir, lower: layer + ":" + root, group: procs.NewGroup(dir, false)}
	s.net, err = labnet.New(s.group, namePrefix+strconv.Itoa(os.Getpid()), netip.MustParsePrefix(Gateway+"/24"))
	if err == nil {
		err = s.group.Do(privateMounts)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Etcd = s.net.Etcd(dir)
	return s, nil
}

// privateMounts keeps the overlays, and what systemd-nspawn mounts, from
// everyone but the group's thread and its children: nothing stays mounted,
// however this process ends.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot keep mounts private: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot keep mounts private: %w", err)
	}
	if err := os.MkdirAll(nspawnDir, 0o755); err != nil {
		return err
	}
	return unix.Mount("tmpfs", nspawnDir, "tmpfs", 0, "mode=0755")
}

// Close ends every machine and removes the network.
func (s *Site) Close() error {
	err := s.group.Close()
	if s.net != nil {
		err = errors.Join(err, s.net.Close())
	}
	return err
}

// sweep removes what killed runs left. It is housekeeping: what is in use or
// cannot be removed stays.
func sweep() {
	left, _ := filepath.Glob("/run/netns/" + namePrefix + "*")
	for _, path := range left {
		if name := filepath.Base(path); !ownerLives(name) {
			_ = labnet.Remove(name)
		}
	}
	for _, group := range cgroup.Find(namePrefix + "*") {
		if !ownerLives(filepath.Base(group[0])) {
			_ = group.Remove()
		}
	}
}

// ownerLives tells whether the process that a name belongs to still runs.
func ownerLives(name string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "-")
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}

// firstbootLayer is the overlay with firstboot's binary and units, as an image
// has them, and with the machines' network.
func firstbootLayer(ctx context.Context, layer string) error {
	if err := program.Build(ctx, filepath.Join(layer, "usr/bin/firstboot")); err != nil {
		return err
	}
	files := []File{{Path: units.Dir + "/" + networkUnit, Data: networkService}}
	for _, f := range units.ImageFiles() {
		files = append(files, File{Path: f.Path, Data: string(f.Data)})
	}
	for _, f := range files {
		if err := f.write(layer); err != nil {
			return err
		}
	}
	return link(layer, networkUnit, "sysinit.target")
}

const networkUnit = "test-network.service"

// networkService gives the machine's end of the cable the address of
// /etc/test-network.
const networkService = `[Unit]
Description=Address of the test's network
DefaultDependencies=no
After=local-fs.target
Before=network.target network-online.target sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/test-network
ExecStart=ip link set host0 up
ExecStart=ip address add ${ADDRESS}/24 dev host0
ExecStart=ip route add default via ` + Gateway + `
`

// link enables a unit, as systemctl enable does.
func link(root, unit, target string) error {
	wants := filepath.Join(root, units.AdminDir, target+".wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(units.Dir, unit), filepath.Join(wants, unit))
}

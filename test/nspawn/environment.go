// Package nspawn boots a Debian with systemd as PID 1, Docker, cloud-init and
// firstboot in systemd-nspawn, which takes about a second. It tests firstboot's
// units together with the real units that they depend on. Such a machine has no
// kernel of its own, so a run cannot complete: nf_conntrack_max is read-only, and
// privileged containers fail. Complete runs are tested in virtual machines.
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

// Gateway is the default gateway of all machines. etcd listens on it.
const Gateway = "10.99.0.1"

// namePrefix is the prefix of the names of the network namespace and the control
// groups. The PID of this process follows.
const namePrefix = "fbnspawn-"

// nspawnDir is the directory of systemd-nspawn's locks and mount points.
const nspawnDir = "/run/systemd/nspawn"

// packages are those whose units interact with firstboot's, and tools of a host.
// cloud-init depends on python3, which a stand-in uses.
func packages() []string {
	return []string{"ca-certificates", "cloud-init", "docker.io", "iptables", "iputils-ping", "kmod", "openssh-server", "rpm"}
}

// Environment is what machines share: the root file system, and an isolated
// network with an etcd. The etcd is not started.
type Environment struct {
	Etcd *labnet.Etcd

	dir    string
	lower  string // overlayfs's lowerdir
	group  *procs.Group
	net    *labnet.Network
	serial int
}

// Open creates an environment in dir. The caller must call Close.
func Open(ctx context.Context, dir string, log cache.Logf) (*Environment, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot boot machines: root is needed")
	}
	root, err := rootfs.Debian(ctx, cache.Open(log), packages()...)
	if err != nil {
		return nil, err
	}
	layer := filepath.Join(dir, "firstboot")
	if err := firstbootLayer(ctx, layer); err != nil {
		return nil, err
	}
	removeAbandoned()
	e := &Environment{dir: dir, lower: layer + ":" + root, group: procs.NewGroup(dir, false)}
	e.net, err = labnet.New(e.group, namePrefix+strconv.Itoa(os.Getpid()), netip.MustParsePrefix(Gateway+"/24"))
	if err == nil {
		err = e.group.Do(privateMounts)
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	e.Etcd = e.net.Etcd(dir, labnet.EtcdOptions{})
	return e, nil
}

// privateMounts moves the calling thread into a private mount namespace. Overlays
// and the mounts of systemd-nspawn are only visible to this thread and its
// children, and disappear when this process ends.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot create a private mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot create a private mount namespace: %w", err)
	}
	if err := os.MkdirAll(nspawnDir, 0o755); err != nil {
		return err
	}
	return unix.Mount("tmpfs", nspawnDir, "tmpfs", 0, "mode=0755")
}

// Close kills all machines and removes the network.
func (e *Environment) Close() error {
	err := e.group.Close()
	if e.net != nil {
		err = errors.Join(err, e.net.Close())
	}
	return err
}

// removeAbandoned removes network namespaces and control groups that killed
// processes left behind. It ignores errors.
func removeAbandoned() {
	left, _ := filepath.Glob("/run/netns/" + namePrefix + "*")
	for _, path := range left {
		if name := filepath.Base(path); !ownerRuns(name) {
			_ = labnet.Remove(name)
		}
	}
	for _, group := range cgroup.Find(namePrefix + "*") {
		if !ownerRuns(filepath.Base(group[0])) {
			_ = group.Remove()
		}
	}
}

// ownerRuns reports whether the process in the name is still running.
func ownerRuns(name string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "-")
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}

// firstbootLayer writes an overlay with firstboot's binary and units, as in an
// image, and the network configuration of the machines.
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

// networkService configures the machine's interface with the address in
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

// link enables a unit like systemctl enable.
func link(root, unit, target string) error {
	wants := filepath.Join(root, units.AdminDir, target+".wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(units.Dir, unit), filepath.Join(wants, unit))
}

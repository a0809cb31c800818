// Package nslab runs hosts without machines: a Debian 13 in network, mount, PID,
// UTS and IPC namespaces of its own. A privileged calico-node, any version of
// Docker, the plugin and firstboot's adapter run in it unchanged, and a host starts
// in seconds, so that many versions run side by side. There is no systemd, no udev
// and no separate kernel: matters of those are tested in machines.
package nslab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/projecteru2/firstboot/test/cgroup"
	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/parts"
	"github.com/projecteru2/firstboot/test/lab/procs"
)

const (
	// namePrefix is the prefix of the names of a lab's network namespace, control
	// groups and directory. The PID of this process follows.
	namePrefix = "fbnslab-"
	prefix     = "10.99.0.0/24"
	// firstHost is the index of the first host's address.
	firstHost = 11

	superviseFile = "/usr/lib/lab/supervise"
	busFile       = "/usr/lib/lab/bus"
	// realRuncName is the name of Docker 20.10's runc, which ociruntime executes.
	realRuncName  = "runc.real"
	nodeImageFile = "/usr/lib/lab/calico-node.tar"
)

// engineDir returns the directory of a Docker's programs on every host.
func engineDir(v parts.DockerVersion) string { return "/opt/docker/" + string(v) }

// Programs are what hosts run. Build builds them.
type Programs struct {
	base      string // directory of all labs of this machine
	root      string // Debian 13
	layer     string // overlay with the programs
	nodeImage string
	engines   map[parts.DockerVersion]parts.Engine
	etcds     map[parts.EtcdVersion]string
}

// Build builds everything that hosts need, after it has removed what killed
// processes left behind. The caller must call Close.
func Build(ctx context.Context, log cache.Logf) (*Programs, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot run hosts in namespaces: root is needed")
	}
	base := filepath.Join(cache.Open(log).Dir, "nslab")
	if err := removeAbandoned(base); err != nil {
		return nil, err
	}
	p := &Programs{
		base: base, layer: filepath.Join(base, ownName()),
		engines: map[parts.DockerVersion]parts.Engine{}, etcds: map[parts.EtcdVersion]string{},
	}
	if err := p.build(ctx, log); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// ownName returns the name of this process's directory. The names of its labs start
// with it.
func ownName() string { return namePrefix + strconv.Itoa(os.Getpid()) }

// Close removes the programs of hosts.
func (p *Programs) Close() error { return os.RemoveAll(p.layer) }

func (p *Programs) build(ctx context.Context, log cache.Logf) error {
	var err error
	if p.root, err = parts.Debian13(ctx, log); err != nil {
		return err
	}
	for _, v := range parts.EtcdVersions() {
		if p.etcds[v], err = parts.Etcd(ctx, v, log); err != nil {
			return err
		}
	}
	files := map[string]string{} // path on the host → path on this machine
	for _, v := range parts.DockerVersions() {
		engine, err := parts.Docker(ctx, v, log)
		if err != nil {
			return err
		}
		p.engines[v] = engine
		programs, err := filepath.Glob(filepath.Join(engine.Dir, "*"))
		if engine.Dir == "" || err != nil {
			continue
		}
		for _, program := range programs {
			name := filepath.Base(program)
			if v == parts.Docker20 && name == "runc" {
				name = realRuncName // behind ociruntime
			}
			files[filepath.Join(engineDir(v), name)] = program
		}
	}
	built, err := parts.Build(ctx, parts.Options{Log: log})
	if err != nil {
		return err
	}
	p.nodeImage = built.NodeImageName
	files["/usr/bin/calicoctl"], files[nodeImageFile] = built.Calicoctl, built.NodeImage
	if files["/usr/bin/eru-minions"], err = parts.MinionsProgram(ctx, log); err != nil {
		return err
	}
	if err := p.install(files); err != nil {
		return err
	}
	if err := os.Symlink(p.engines[parts.Docker29].Runtime, filepath.Join(p.layer, engineDir(parts.Docker29), "runc")); err != nil {
		return err
	}
	return p.buildOwn(ctx)
}

// install links the files into the layer, or copies them from another file system.
func (p *Programs) install(files map[string]string) error {
	for path, from := range files {
		to := filepath.Join(p.layer, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if os.Link(from, to) == nil {
			continue
		}
		if out, err := exec.Command("cp", "-p", from, to).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot install %s: %w: %s", path, err, out)
		}
	}
	return nil
}

// buildOwn builds firstboot and the programs of the lab from this checkout.
func (p *Programs) buildOwn(ctx context.Context) error {
	if err := lab.BuildFirstboot(ctx, filepath.Join(p.layer, "usr/bin/firstboot")); err != nil {
		return err
	}
	for name, path := range map[string]string{
		"supervise": superviseFile, "bus": busFile, "ociruntime": engineDir(parts.Docker20) + "/runc",
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(p.layer, path), "github.com/projecteru2/firstboot/test/nslab/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// Lab is an isolated network with an etcd and hosts.
type Lab struct {
	Etcd  *labnet.Etcd
	Hosts []*Host
	Net   *labnet.Network

	version      parts.EtcdVersion
	serial       int // of this process's labs
	programs     *Programs
	name         string
	dir          string
	lower        string // overlayfs's lowerdir
	group        *procs.Group
	certificates labnet.Certificates // with TLS
}

// serial distinguishes the labs of this process.
var serial atomic.Int32

// Open creates a lab and starts its etcd. etcd 3.4 serves the v2 API; 3.7 requires
// client certificates, and takes their CN as the user. The caller must call Close.
func (p *Programs) Open(ctx context.Context, version parts.EtcdVersion) (*Lab, error) {
	number := int(serial.Add(1))
	name := fmt.Sprintf("%s-%d", ownName(), number)
	l := &Lab{version: version, serial: number, programs: p, name: name, dir: filepath.Join(p.base, name), lower: p.layer + ":" + p.root}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, err
	}
	l.group = procs.NewGroup(l.dir, false)
	err := l.open(ctx)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) open(ctx context.Context) error {
	var err error
	if l.Net, err = labnet.New(l.group, l.name, netip.MustParsePrefix(prefix)); err != nil {
		return err
	}
	options := labnet.EtcdOptions{Program: l.programs.etcds[l.version], NoV2: !l.version.SupportsV2(), TLS: l.tls()}
	if l.tls() {
		l.certificates, err = labnet.NewCertificates(filepath.Join(l.dir, "certs"), l.Net.Gateway())
		if err != nil {
			return err
		}
		options.Certificates = l.certificates
	}
	l.Etcd = l.Net.Etcd(l.dir, options)
	return l.Etcd.Start(ctx)
}

// tls reports whether etcd requires client certificates.
func (l *Lab) tls() bool { return l.version == parts.Etcd37 }

// Scope is that of a host's Docker network.
type Scope bool

// A local network is one host's, behind the adapter. A global network is all hosts',
// by Docker's cluster store.
const (
	Local  Scope = false
	Global Scope = true
)

// AddHost creates a host with a version of Docker. It does not boot it.
func (l *Lab) AddHost(version parts.DockerVersion, scope Scope) *Host {
	n := len(l.Hosts)
	h := &Host{
		Name: fmt.Sprintf("host%d", n+1), Address: l.Net.Address(firstHost + n), Docker: l.programs.engines[version],
		lab: l, global: bool(scope), index: n + 1, dir: filepath.Join(l.dir, fmt.Sprintf("host%d", n+1)),
	}
	l.Hosts = append(l.Hosts, h)
	return h
}

// Each calls do for all hosts in parallel.
func (l *Lab) Each(do func(*Host) error) error {
	var all errgroup.Group
	for _, h := range l.Hosts {
		all.Go(func() error { return do(h) })
	}
	return all.Wait()
}

// Close kills everything and removes the lab.
func (l *Lab) Close() error {
	err := l.group.Close()
	if l.Net != nil {
		err = errors.Join(err, l.Net.Close())
	}
	return errors.Join(err, removeGroups(l.name), os.RemoveAll(l.dir))
}

// removeGroups removes a lab's control groups from every hierarchy.
func removeGroups(name string) error {
	var all []error
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, _ := filepath.Glob(pattern + name) // fails only for a malformed pattern
		for _, path := range found {
			all = append(all, cgroup.Group{path}.Remove())
		}
	}
	return errors.Join(all...)
}

// removeAbandoned removes what killed processes left behind in dir.
func removeAbandoned(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, namePrefix+"*"))
	if err != nil {
		return err
	}
	var all []error
	for _, path := range left {
		if name := filepath.Base(path); !ownerRuns(name) {
			all = append(all, procs.KillRecorded(path), labnet.Remove(name), removeGroups(name), os.RemoveAll(path))
		}
	}
	return errors.Join(all...)
}

// ownerRuns reports whether the process in the name is still running.
func ownerRuns(name string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "-")
	if _, err := strconv.Atoi(pid); err != nil {
		return false
	}
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}

// Package lab runs virtual machines that boot a golden image with firstboot, on
// an isolated network with a real etcd. The scenarios and the demo use it. The
// packages below it build the parts of a lab.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/machine"
	"github.com/projecteru2/firstboot/test/lab/parts"
	"github.com/projecteru2/firstboot/test/lab/procs"
)

const (
	defaultPrefix = "10.123.0.0/24"
	// firstHost is the index of the first host's address: 10.123.0.11.
	firstHost = 11
	maxHosts  = 200
)

// Options configure a lab. The zero value is a lab with two hosts.
type Options struct {
	Name  string // lower case; empty: lab-PID
	Hosts int    // 0: two
	Bare  bool   // no hosts; the caller adds them with AddHost
	// Debian lists the releases of the hosts: of host1, host2 and so on, from the
	// beginning again after the last. Empty: all hosts have Debian 12. In a bare
	// lab these are the releases of Images.
	Debian []golden.Release
	// Etcd configures etcd. With TLS the lab adds the certificates, also to the
	// images and their configuration.
	Etcd   labnet.EtcdOptions
	Prefix netip.Prefix // of the lab's network; zero: 10.123.0.0/24
	Parts  parts.Options
	// Firstboot is the path of the binary to install in the image. If it is
	// empty, the lab builds it from this checkout.
	Firstboot string
	// Config changes the configuration in the image.
	Config func(*Config)
	// Files are additional files in the image.
	Files []golden.File
	// Append are additional kernel arguments of every host.
	Append string
	// Keep leaves the lab running when this process ends.
	Keep bool
	// Log receives one line of progress per call. It may be nil.
	Log func(format string, args ...any)
}

// Lab is a lab with a running etcd. Its hosts are powered off at first.
type Lab struct {
	Name      string
	Dir       string // disks, consoles and etcd's data; removed with the lab
	Hosts     []*Host
	Net       *labnet.Network
	Etcd      *labnet.Etcd
	Parts     parts.Parts
	Firstboot string                          // path of the binary
	Image     golden.Image                    // of the first host; in a bare lab it is without firstboot
	Images    map[golden.Release]golden.Image // of all hosts
	Accel     machine.Accel

	log     cache.Logf
	store   cache.Store
	keyPath string
	key     []byte // public key, as a line of authorized_keys
	work    *workspace
	group   *procs.Group
	closing sync.Once
	codeMB  int

	etcdOptions labnet.EtcdOptions // with the certificates
}

// New creates a lab. It builds what is not in the cache, and removes labs that a
// killed process left behind. The caller must call Close.
func New(ctx context.Context, o Options) (*Lab, error) {
	o = o.withDefaults()
	store := cache.Open(o.Log)
	if o.Hosts > maxHosts {
		return nil, fmt.Errorf("cannot create a lab with %d hosts: the maximum is %d", o.Hosts, maxHosts)
	}
	if os.Getuid() != 0 {
		return nil, errors.New("cannot create a lab: root is needed for its network namespace and its machines' disks")
	}
	if err := checkCapacity(store.Dir, o.Hosts); err != nil {
		return nil, err
	}
	work, err := newWorkspace(filepath.Join(store.Dir, "labs"), o.Name, o.Log)
	if err != nil {
		return nil, err
	}
	l := &Lab{Name: o.Name, Dir: work.dir, log: o.Log, store: store, work: work, codeMB: codeMB(max(o.Hosts, 2))}
	if err := l.create(ctx, store, o); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = fmt.Sprintf("lab-%d", os.Getpid())
	}
	switch {
	case o.Bare:
		o.Hosts = 0
	case o.Hosts == 0:
		o.Hosts = 2
	}
	if !o.Prefix.IsValid() {
		o.Prefix = netip.MustParsePrefix(defaultPrefix)
	}
	if len(o.Debian) == 0 {
		o.Debian = []golden.Release{golden.Debian12}
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return o
}

// gateway returns the address of the bridge, on which etcd listens.
func (o Options) gateway() netip.Addr { return o.Prefix.Masked().Addr().Next() }

func (l *Lab) create(ctx context.Context, store cache.Store, o Options) error {
	if err := l.build(ctx, store, o); err != nil {
		return err
	}
	l.group = procs.NewGroup(l.Dir, o.Keep)
	var err error
	if l.Net, err = labnet.New(l.group, l.work.namespace(), o.Prefix); err != nil {
		return err
	}
	l.Etcd = l.Net.Etcd(l.Dir, l.etcdOptions)
	if err := l.Etcd.Start(ctx); err != nil {
		return err
	}
	for n := range o.Hosts {
		image := l.Images[o.Debian[n%len(o.Debian)]]
		if err := l.newHost(ctx, n, image, o.Append); err != nil {
			return err
		}
	}
	if err := l.writeAccess(); err != nil {
		return err
	}
	if o.Keep {
		return l.work.markKept()
	}
	return nil
}

// Boot powers all hosts on at the same time.
func (l *Lab) Boot(ctx context.Context) error {
	return l.Each(func(h *Host) error { return h.Boot(ctx) })
}

// Each calls do for all hosts in parallel.
func (l *Lab) Each(do func(*Host) error) error {
	errs := make([]error, len(l.Hosts))
	var all sync.WaitGroup
	for i, h := range l.Hosts {
		all.Go(func() {
			if err := do(h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Close powers everything off and removes the lab.
func (l *Lab) Close() error {
	var err error
	l.closing.Do(func() {
		for _, h := range l.Hosts {
			h.disconnect()
		}
		if l.group != nil {
			err = l.group.Close()
		}
		err = errors.Join(err, l.work.remove())
	})
	return err
}

// Detach releases a lab that was created with Keep. It continues to run after
// this process has ended, until Stop.
func (l *Lab) Detach() error {
	var err error
	l.closing.Do(func() {
		for _, h := range l.Hosts {
			h.disconnect()
		}
		l.group.Detach()
		err = errors.Join(l.Net.Detach(), l.work.unlock())
	})
	return err
}

// Package lab is a small data centre on one machine: virtual machines that boot
// from a golden image with firstboot in it, on a network of their own with a
// real etcd. Stories about hosts are told with it; what they are made of is in
// the packages below.
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
	// firstHost is the number of the first host's address: 10.123.0.11.
	firstHost = 11
	maxHosts  = 200
)

// Options are what a lab is made of. The zero value is a lab of two hosts.
type Options struct {
	Name   string       // lower case; empty: made of the process's number
	Hosts  int          // 0: two
	Bare   bool         // no hosts; AddHost makes each, from an image of its own
	Prefix netip.Prefix // of the wire; zero: 10.123.0.0/24
	Parts  parts.Options
	// Firstboot is the binary that goes into the image; empty: built from
	// this checkout.
	Firstboot string
	// Config changes the configuration that goes into the image.
	Config func(*Config)
	// Files go into the image as well.
	Files []golden.File
	// Append are kernel arguments of every host, besides the lab's own.
	Append string
	// Keep leaves the lab running when this process ends.
	Keep bool
	// Log takes progress, a line a call; nil: silent.
	Log func(format string, args ...any)
}

// Lab is a running lab. Its hosts are powered off at first; its etcd runs.
type Lab struct {
	Name      string
	Dir       string // disks, consoles, etcd's data: gone with the lab
	Hosts     []*Host
	Net       *labnet.Network
	Etcd      *labnet.Etcd
	Parts     parts.Parts
	Firstboot string       // the binary
	Image     golden.Image // of the hosts that are alike; of a bare lab, without firstboot
	Accel     machine.Accel

	log     cache.Logf
	store   cache.Store
	keyPath string
	key     []byte // its public half, as a line of authorized_keys
	lease   *lease
	group   *procs.Group
	closing sync.Once
	codeMB  int
}

// New builds or takes from the cache what a lab is made of, removes labs that
// a killed run left, and makes this one. The caller closes it.
func New(ctx context.Context, o Options) (*Lab, error) {
	o = o.withDefaults()
	store := cache.Open(o.Log)
	if o.Hosts > maxHosts {
		return nil, fmt.Errorf("cannot make a lab of %d hosts: at most %d", o.Hosts, maxHosts)
	}
	if os.Getuid() != 0 {
		return nil, errors.New("cannot make a lab: it needs root, for its network namespace and its machines' disks")
	}
	if err := checkRoom(store.Dir, o.Hosts); err != nil {
		return nil, err
	}
	lease, err := take(filepath.Join(store.Dir, "labs"), o.Name, o.Log)
	if err != nil {
		return nil, err
	}
	l := &Lab{Name: o.Name, Dir: lease.dir, log: o.Log, store: store, lease: lease, codeMB: codeMB(max(o.Hosts, 2))}
	if err := l.make(ctx, store, o); err != nil {
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
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return o
}

func (l *Lab) make(ctx context.Context, store cache.Store, o Options) error {
	if err := l.build(ctx, store, o); err != nil {
		return err
	}
	l.group = procs.NewGroup(l.Dir, o.Keep)
	var err error
	if l.Net, err = labnet.New(l.group, l.lease.namespace(), o.Prefix); err != nil {
		return err
	}
	l.Etcd = l.Net.Etcd(l.Dir)
	if err := l.Etcd.Start(ctx); err != nil {
		return err
	}
	for n := range o.Hosts {
		if err := l.newHost(ctx, n, o.Append); err != nil {
			return err
		}
	}
	if err := l.writeDoors(); err != nil {
		return err
	}
	if o.Keep {
		return l.lease.keep()
	}
	return nil
}

// Boot powers all hosts on at the same instant.
func (l *Lab) Boot(ctx context.Context) error {
	return l.Each(func(h *Host) error { return h.Boot(ctx) })
}

// Each does something with all hosts, side by side.
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
			h.hangUp()
		}
		if l.group != nil {
			err = l.group.Close()
		}
		err = errors.Join(err, l.lease.close())
	})
	return err
}

// Leave lets go of a lab that was made with Keep: it goes on when this process
// has ended, until Stop.
func (l *Lab) Leave() error {
	var err error
	l.closing.Do(func() {
		for _, h := range l.Hosts {
			h.hangUp()
		}
		l.group.Leave()
		err = errors.Join(l.Net.Leave(), l.lease.release())
	})
	return err
}

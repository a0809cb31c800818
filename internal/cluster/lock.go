package cluster

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"go.etcd.io/etcd/client/v3"
)

// What firstboot itself keeps in etcd.
const (
	prefix           = "/firstboot/v1/"
	locksPrefix      = prefix + "locks/"
	semaphoresPrefix = prefix + "semaphores/"
	hostsPrefix      = prefix + "hosts/"
)

// Lock is a place that this host holds: a lock, or a slot of a semaphore. It
// lapses, a lease's time after the host died.
type Lock struct {
	key   string
	lease *lease
}

// Lock waits until this host, owner, holds the named lock. Those that wait are
// served in the order they came. While it waits, waiting is told who holds the
// lock, whenever that changes; it may be nil. A holder that dies keeps others
// out for ttl at most (at least 2 s: etcd grants no less).
func (c *Client) Lock(ctx context.Context, name, owner string, ttl time.Duration, waiting func(holder string)) (*Lock, error) {
	return c.enter(ctx, "lock "+name, locksPrefix, name, owner, 1, ttl, func(ahead []place) {
		if waiting != nil {
			waiting(ahead[0].owner)
		}
	})
}

// Semaphore waits until fewer than slots others hold the named semaphore.
// Those that wait are served in the order they came. While it waits, waiting is
// told how many must leave before it is this host's turn; it may be nil. All
// hosts should ask with the same number of slots: each goes by its own.
func (c *Client) Semaphore(ctx context.Context, name, owner string, slots int, ttl time.Duration, waiting func(ahead int)) (*Lock, error) {
	if slots < 1 {
		return nil, fmt.Errorf("cannot enter semaphore %s: it has %d slots", name, slots)
	}
	return c.enter(ctx, "semaphore "+name, semaphoresPrefix, name, owner, slots, ttl, func(ahead []place) {
		if waiting != nil {
			waiting(len(ahead) - slots + 1)
		}
	})
}

// Holder tells who holds the named lock; empty: nobody.
func (c *Client) Holder(ctx context.Context, name string) (owner string, err error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, locksPrefix+name+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", c.fail("ask who holds lock "+name+" in", err)
	}
	if len(resp.Kvs) == 0 {
		return "", nil
	}
	return ownerIn(resp.Kvs[0].Value), nil
}

// Key is where the lock is held in etcd.
func (l *Lock) Key() string { return l.key }

// Done is closed when the lock is lost, or given back. It is closed before
// anybody else can hold it: who works under the lock stops then.
func (l *Lock) Done() <-chan struct{} { return l.lease.lost }

// Unlock gives the lock back. If etcd is not there it lapses with its lease;
// the error says so.
func (l *Lock) Unlock() error {
	if err := l.lease.end(); err != nil {
		return fmt.Errorf("cannot give back %s, it lapses within %v: %w", l.key, l.lease.ttl, err)
	}
	return nil
}

// lockName is what locks and semaphores may be called.
var lockName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// enter takes a place in a queue and waits until fewer than slots are ahead.
func (c *Client) enter(ctx context.Context, what, folder, name, owner string, slots int, ttl time.Duration, waiting func([]place)) (*Lock, error) {
	if !lockName.MatchString(name) {
		return nil, fmt.Errorf("cannot take a lock named %q", clean(name))
	}
	held, err := c.grant(ctx, ttl)
	if err != nil {
		return nil, c.fail("get a lease for "+what+" from", err)
	}
	q := &queue{c: c, lease: held, folder: folder + name + "/", slots: slots}
	err = q.join(ctx, owner)
	if err == nil {
		err = q.wait(ctx, waiting)
	}
	if err != nil {
		// The caller wants to go on; what etcd cannot be told lapses.
		_ = held.end()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("gave up waiting for %s%s: %w", what, q.holders(), context.Cause(ctx))
		}
		return nil, c.fail("wait for "+what+" in", err)
	}
	return &Lock{key: q.key(), lease: held}, nil
}

// errLost says that etcd was out of reach for so long that the place in the
// queue is not ours any more.
var errLost = errors.New("its lease was lost meanwhile")

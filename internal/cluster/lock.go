package cluster

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/fault"
)

// The prefixes of firstboot's own keys.
const (
	prefix           = "/firstboot/v1/"
	locksPrefix      = prefix + "locks/"
	semaphoresPrefix = prefix + "semaphores/"
	hostsPrefix      = prefix + "hosts/"
	networksPrefix   = prefix + "networks/"
)

// Lock is a lock or a slot of a semaphore that this host holds. If the host dies,
// it expires with its lease.
type Lock struct {
	key   string
	lease *lease
}

// Lock waits until this host, owner, holds the named lock. Hosts acquire it in
// the order in which they called Lock. While it waits, onWait is called with the
// holder whenever that changes; it may be nil. If the holder dies, the lock
// expires after ttl (at least 2 s, the minimum that etcd grants).
func (c *Client) Lock(ctx context.Context, name, owner string, ttl time.Duration, onWait func(holder string)) (*Lock, error) {
	return c.acquire(ctx, "lock "+name, locksPrefix, name, owner, 1, ttl, func(ahead []entry) {
		if onWait != nil {
			onWait(ahead[0].owner)
		}
	})
}

// Semaphore waits until this host holds one of the slots of the named semaphore.
// Hosts acquire a slot in the order in which they called Semaphore. While it
// waits, onWait is called with the number of hosts that must release a slot
// first; it may be nil. All hosts should pass the same number of slots, because
// each host uses its own.
func (c *Client) Semaphore(ctx context.Context, name, owner string, slots int, ttl time.Duration, onWait func(ahead int)) (*Lock, error) {
	if slots < 1 {
		return nil, fmt.Errorf("cannot acquire semaphore %s: it has %d slots", name, slots)
	}
	return c.acquire(ctx, "semaphore "+name, semaphoresPrefix, name, owner, slots, ttl, func(ahead []entry) {
		if onWait != nil {
			onWait(len(ahead) - slots + 1)
		}
	})
}

// Holder returns the owner of the named lock, or "" if it is free.
func (c *Client) Holder(ctx context.Context, name string) (owner string, err error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, locksPrefix+name+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", c.wrapError("query the holder of lock "+name+" in", err)
	}
	if len(resp.Kvs) == 0 {
		return "", nil
	}
	return decodeOwner(resp.Kvs[0].Value), nil
}

// Key returns the lock's key in etcd.
func (l *Lock) Key() string { return l.key }

// Done returns a channel that is closed when the lock is lost or released. It is
// closed before another host can acquire the lock; work under the lock must stop
// then.
func (l *Lock) Done() <-chan struct{} { return l.lease.lost }

// Unlock releases the lock. If it returns an error, the lock expires with its
// lease.
func (l *Lock) Unlock() error {
	if err := l.lease.release(); err != nil {
		return fmt.Errorf("cannot release %s, which expires within %v: %w", l.key, l.lease.ttl, err)
	}
	return nil
}

// lockName matches the valid names of locks and semaphores.
var lockName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// acquire joins a queue and waits until fewer than slots entries are ahead.
func (c *Client) acquire(ctx context.Context, what, prefix, name, owner string, slots int, ttl time.Duration, onWait func([]entry)) (*Lock, error) {
	if !lockName.MatchString(name) {
		return nil, fmt.Errorf("cannot acquire a lock: %q is not a lock name", sanitize(name))
	}
	held, err := c.grant(ctx, ttl)
	if err != nil {
		return nil, c.wrapError("get a lease for "+what+" from", err)
	}
	q := &queue{c: c, lease: held, prefix: prefix + name + "/", slots: slots}
	err = q.join(ctx, owner)
	if err == nil {
		err = q.wait(ctx, onWait)
	}
	if err != nil {
		// If the release fails, the lease expires.
		_ = held.release()
		if ctx.Err() != nil {
			return nil, fault.New(fault.Transient, fault.Lock, fmt.Errorf("stopped waiting for %s%s: %w", what, q.holders(), context.Cause(ctx)))
		}
		return nil, c.wrapError("wait for "+what+" in", err)
	}
	return &Lock{key: q.key(), lease: held}, nil
}

// errLeaseLost means that etcd was not available for so long that this host's
// entry in the queue may have expired.
var errLeaseLost = fault.New(fault.Transient, fault.Lock, errors.New("the lease was lost"))

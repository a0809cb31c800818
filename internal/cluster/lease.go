package cluster

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
)

// lease keeps an etcd lease alive. It replaces the Session of etcd's concurrency
// package, which counts a lease's time from etcd's response, so the holder keeps
// the lease slightly longer than etcd does. This type counts from the request,
// so it ends before another host can acquire the lock. It also does not wait for
// an etcd that is not available.
type lease struct {
	c    *Client
	id   clientv3.LeaseID
	ttl  time.Duration
	lost chan struct{} // closed when the lease is released or may have expired
	stop context.CancelFunc
	done chan struct{} // closed when keep has returned
	once sync.Once
	err  error // result of release
}

// minTTL is the shortest lease that etcd grants with its default settings.
const minTTL = 2 * time.Second

// revokeTimeout limits the revocation of a lease, which expires anyway. An
// interrupted run therefore ends soon even if etcd is not available.
const revokeTimeout = 2 * time.Second

// grant requests a lease and keeps it alive until it is released or lost. It
// outlives ctx.
func (c *Client) grant(ctx context.Context, ttl time.Duration) (*lease, error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	sent := time.Now()
	granted, err := c.etcd.Grant(ctx, int64(max(ttl, minTTL).Round(time.Second)/time.Second))
	if err != nil {
		return nil, err
	}
	l := &lease{
		c: c, id: granted.ID, ttl: time.Duration(granted.TTL) * time.Second,
		lost: make(chan struct{}), done: make(chan struct{}),
	}
	kept, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go l.keep(kept, sent)
	return l, nil
}

// keep renews the lease three times per TTL. It returns when ctx is done, or when
// etcd has not answered for so long that the lease may have expired.
func (l *lease) keep(ctx context.Context, sent time.Time) {
	defer close(l.done)
	defer close(l.lost)
	ticks := time.NewTicker(l.ttl / 3)
	defer ticks.Stop()
	for {
		// The margin of 5 % covers the timer's delay.
		end := sent.Add(l.ttl - l.ttl/20)
		ends := time.NewTimer(time.Until(end))
		select {
		case <-ctx.Done():
			ends.Stop()
			return
		case <-l.c.etcd.Ctx().Done(): // the client was closed
			ends.Stop()
			return
		case <-ends.C:
			return
		case <-ticks.C:
			ends.Stop()
		}
		renewed, expired := l.renew(ctx, end)
		if expired {
			return
		}
		if !renewed.IsZero() {
			sent = renewed
		}
	}
}

// renew sends one request and returns when it sent it, or the zero time if etcd
// did not answer in time. expired reports that the lease no longer exists.
func (l *lease) renew(ctx context.Context, end time.Time) (sent time.Time, expired bool) {
	by := time.Now().Add(l.ttl / 3)
	if by.After(end) {
		by = end
	}
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	sent = time.Now()
	resp, err := l.c.etcd.KeepAliveOnce(ctx, l.id)
	switch {
	case err == nil && resp.TTL > 0:
		return sent, false
	case err == nil, isLeaseNotFound(err):
		return time.Time{}, true
	}
	return time.Time{}, false
}

// release revokes the lease, which deletes its keys.
func (l *lease) release() error {
	l.once.Do(func() {
		l.stop()
		<-l.done
		ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
		defer cancel()
		if _, err := l.c.etcd.Revoke(ctx, l.id); err != nil && !isLeaseNotFound(err) {
			l.err = grpcMessage(err)
		}
	})
	return l.err
}

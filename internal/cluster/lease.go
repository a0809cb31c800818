package cluster

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
)

// lease keeps an etcd lease alive. The concurrency package's Session is not
// used: it counts the time left from when an answer came, so that its holder
// believes in the lease a little longer than etcd does. This one counts from
// when the request was sent, and so ends before anybody else can get in. Nor
// does it wait for an etcd that is not there.
type lease struct {
	c    *Client
	id   clientv3.LeaseID
	ttl  time.Duration
	lost chan struct{} // closed when the lease is over for us
	stop context.CancelFunc
	done chan struct{} // closed when keep has ended
	once sync.Once
	err  error // of the revocation
}

// minTTL is the shortest lease that etcd grants with its usual settings.
const minTTL = 2 * time.Second

// revokeTime bounds the giving back of a lease, which lapses anyway: a run
// that is interrupted ends soon even if etcd is gone.
const revokeTime = 2 * time.Second

// grant gets a lease and begins to keep it. It lives until it is ended or
// lost, not only as long as ctx.
func (c *Client) grant(ctx context.Context, ttl time.Duration) (*lease, error) {
	ctx, cancel := c.bounded(ctx)
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

// keep renews the lease three times in its life, until ctx ends or etcd did
// not answer for so long that the lease may be over.
func (l *lease) keep(ctx context.Context, sent time.Time) {
	defer close(l.done)
	defer close(l.lost)
	ticks := time.NewTicker(l.ttl / 3)
	defer ticks.Stop()
	for {
		// The margin is for the timer's own delay.
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
		renewed, gone := l.renew(ctx, end)
		if gone {
			return
		}
		if !renewed.IsZero() {
			sent = renewed
		}
	}
}

// renew asks once and tells when it asked; zero if there was no answer in
// time. gone tells that etcd does not know the lease any more.
func (l *lease) renew(ctx context.Context, end time.Time) (sent time.Time, gone bool) {
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
	case err == nil, leaseGone(err):
		return time.Time{}, true
	}
	return time.Time{}, false
}

// end gives the lease back, and with it every key that hangs on it.
func (l *lease) end() error {
	l.once.Do(func() {
		l.stop()
		<-l.done
		ctx, cancel := context.WithTimeout(context.Background(), revokeTime)
		defer cancel()
		if _, err := l.c.etcd.Revoke(ctx, l.id); err != nil && !leaseGone(err) {
			l.err = short(err)
		}
	})
	return l.err
}

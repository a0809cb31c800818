package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
)

// queue is a folder in etcd with one key for each host that holds or waits,
// each on its host's lease. Who came first is in front; the first slots of
// them hold. It is the recipe of etcd's concurrency package, but for more than
// one holder, with the holders' names, and with every call bounded: that
// package tidies up after a wait without a deadline.
type queue struct {
	c        *Client
	lease    *lease
	folder   string
	slots    int
	revision int64   // at which this host joined
	ahead    []place // who came before and is still there, in their order
}

// place is another host's key.
type place struct{ key, owner string }

// holder is what a key's value says.
type holder struct {
	Owner string    `json:"owner"`
	Since time.Time `json:"since"`
}

func (q *queue) key() string { return fmt.Sprintf("%s%016x", q.folder, int64(q.lease.id)) }

// join writes this host's key and reads, in one transaction, who is ahead.
func (q *queue) join(ctx context.Context, owner string) error {
	value, err := json.Marshal(holder{Owner: clean(owner), Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	ctx, cancel := q.c.bounded(ctx)
	defer cancel()
	resp, err := q.c.etcd.Txn(ctx).Then(
		clientv3.OpGet(q.folder, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)),
		clientv3.OpPut(q.key(), string(value), clientv3.WithLease(q.lease.id)),
	).Commit()
	if err != nil {
		return err
	}
	q.revision = resp.Header.Revision
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		q.ahead = append(q.ahead, place{string(kv.Key), ownerIn(kv.Value)})
	}
	return nil
}

// wait watches those ahead leave, until fewer than slots are left. Each host
// counts for itself, so that one that leaves costs no reads.
func (q *queue) wait(ctx context.Context, waiting func([]place)) error {
	if len(q.ahead) < q.slots {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	leaving := q.c.etcd.Watch(clientv3.WithRequireLeader(ctx), q.folder,
		clientv3.WithPrefix(), clientv3.WithRev(q.revision+1), clientv3.WithFilterPut())
	waiting(q.ahead)
	for len(q.ahead) >= q.slots {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.lease.lost:
			return errLost
		case left, open := <-leaving:
			if err := left.Err(); err != nil {
				return err
			}
			if !open {
				return errors.New("etcd ended the watch")
			}
			if q.left(left.Events) {
				return errLost
			}
			if len(q.ahead) >= q.slots && len(left.Events) > 0 {
				waiting(q.ahead)
			}
		}
	}
	return q.still(ctx)
}

// left takes those out that left and tells whether this host was one of them.
func (q *queue) left(events []*clientv3.Event) (self bool) {
	for _, e := range events {
		gone := string(e.Kv.Key)
		self = self || gone == q.key()
		q.ahead = slices.DeleteFunc(q.ahead, func(p place) bool { return p.key == gone })
	}
	return self
}

// holders is who keeps this host waiting, for an error.
func (q *queue) holders() string {
	if len(q.ahead) < q.slots {
		return ""
	}
	names := make([]string, q.slots)
	for i := range names {
		names[i] = q.ahead[i].owner
	}
	return ", held by " + clean(strings.Join(names, ", "))
}

// still makes sure that the place is still this host's.
func (q *queue) still(ctx context.Context) error {
	ctx, cancel := q.c.bounded(ctx)
	defer cancel()
	resp, err := q.c.etcd.Get(ctx, q.key(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	select {
	case <-q.lease.lost:
		return errLost
	default:
	}
	if resp.Count == 0 {
		return errLost
	}
	return nil
}

// ownerIn reads whose a key is. What cannot be read is still somebody's.
func ownerIn(value []byte) string {
	var h holder
	if len(value) > maxValue || json.Unmarshal(value, &h) != nil || h.Owner == "" {
		return "unknown"
	}
	return clean(h.Owner)
}

func leaseGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

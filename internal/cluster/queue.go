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

// queue is a prefix in etcd with one key for each host that holds or waits. Each
// key has its host's lease. The first slots keys, by creation, are the holders.
// The algorithm is that of etcd's concurrency package, extended by several
// holders, the holders' names and a deadline for every call; that package has no
// deadline when it cleans up after a wait.
type queue struct {
	c        *Client
	lease    *lease
	prefix   string
	slots    int
	revision int64   // etcd's revision when this host joined
	ahead    []entry // the remaining entries before this host's, in order
}

// entry is another host's key.
type entry struct{ key, owner string }

// entryValue is the value of a key.
type entryValue struct {
	Owner string    `json:"owner"`
	Since time.Time `json:"since"`
}

func (q *queue) key() string { return fmt.Sprintf("%s%016x", q.prefix, int64(q.lease.id)) }

// join writes this host's key and reads the entries ahead, in one transaction.
func (q *queue) join(ctx context.Context, owner string) error {
	value, err := json.Marshal(entryValue{Owner: sanitize(owner), Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	ctx, cancel := q.c.withTimeout(ctx)
	defer cancel()
	resp, err := q.c.etcd.Txn(ctx).Then(
		clientv3.OpGet(q.prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)),
		clientv3.OpPut(q.key(), string(value), clientv3.WithLease(q.lease.id)),
	).Commit()
	if err != nil {
		return err
	}
	q.revision = resp.Header.Revision
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		q.ahead = append(q.ahead, entry{string(kv.Key), decodeOwner(kv.Value)})
	}
	return nil
}

// wait watches the entries ahead until fewer than slots remain. It counts the
// deletions itself, so a deletion causes no reads.
func (q *queue) wait(ctx context.Context, onWait func([]entry)) error {
	if len(q.ahead) < q.slots {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deletions := q.c.etcd.Watch(clientv3.WithRequireLeader(ctx), q.prefix,
		clientv3.WithPrefix(), clientv3.WithRev(q.revision+1), clientv3.WithFilterPut())
	onWait(q.ahead)
	for len(q.ahead) >= q.slots {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.lease.lost:
			return errLeaseLost
		case deleted, open := <-deletions:
			if err := deleted.Err(); err != nil {
				return err
			}
			if !open {
				return errors.New("etcd closed the watch")
			}
			if q.remove(deleted.Events) {
				return errLeaseLost
			}
			if len(q.ahead) >= q.slots && len(deleted.Events) > 0 {
				onWait(q.ahead)
			}
		}
	}
	return q.confirm(ctx)
}

// remove removes the deleted entries and reports whether this host's key was
// deleted.
func (q *queue) remove(events []*clientv3.Event) (self bool) {
	for _, e := range events {
		deleted := string(e.Kv.Key)
		self = self || deleted == q.key()
		q.ahead = slices.DeleteFunc(q.ahead, func(p entry) bool { return p.key == deleted })
	}
	return self
}

// holders returns the holders that this host waits for, as part of an error.
func (q *queue) holders() string {
	if len(q.ahead) < q.slots {
		return ""
	}
	names := make([]string, q.slots)
	for i := range names {
		names[i] = q.ahead[i].owner
	}
	return ", held by " + sanitize(strings.Join(names, ", "))
}

// confirm returns an error if this host's key no longer exists.
func (q *queue) confirm(ctx context.Context) error {
	ctx, cancel := q.c.withTimeout(ctx)
	defer cancel()
	resp, err := q.c.etcd.Get(ctx, q.key(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	select {
	case <-q.lease.lost:
		return errLeaseLost
	default:
	}
	if resp.Count == 0 {
		return errLeaseLost
	}
	return nil
}

// decodeOwner returns the owner in a key's value. A key whose value cannot be
// decoded is still held, so its owner is "unknown".
func decodeOwner(value []byte) string {
	var h entryValue
	if len(value) > maxValue || json.Unmarshal(value, &h) != nil || h.Owner == "" {
		return "unknown"
	}
	return sanitize(h.Owner)
}

func isLeaseNotFound(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

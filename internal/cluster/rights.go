package cluster

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3"
)

// Prefixes returns the keys that a host reads and writes in etcd, as prefixes:
// Calico's, the plugin's, and firstboot's locks and records.
func Prefixes() []string { return []string{"/calico/", "/barrel/", "/firstboot/"} }

// MissingRight is what the client's user may not do with the keys of a prefix.
type MissingRight struct {
	Prefix string
	Read   bool // reading is not permitted
	Write  bool // writing is not permitted
}

// String returns the right in words that complete "the user lacks …".
func (m MissingRight) String() string {
	switch {
	case m.Read && m.Write:
		return "read and write on " + m.Prefix
	case m.Read:
		return "read on " + m.Prefix
	}
	return "write on " + m.Prefix
}

// MissingRights queries which rights on Prefixes etcd does not grant to this
// client. An etcd without users grants all of them. Nothing in etcd changes. The
// error means that etcd could not be queried, or that it does not know the user.
func (c *Client) MissingRights(ctx context.Context) ([]MissingRight, error) {
	var missing []MissingRight
	for _, p := range Prefixes() {
		read, err := c.denies(ctx, p, c.mayRead)
		if err != nil {
			return nil, err
		}
		write, err := c.denies(ctx, p, c.mayWrite)
		if err != nil {
			return nil, err
		}
		if read || write {
			missing = append(missing, MissingRight{p, read, write})
		}
	}
	return missing, nil
}

// denies reports whether etcd answers a query with "permission denied".
func (c *Client) denies(ctx context.Context, prefix string, query func(context.Context, string) error) (bool, error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	err := query(ctx, prefix)
	if err == nil || permissionDenied(err) {
		return err != nil, nil
	}
	return false, c.wrapError(fmt.Sprintf("query the rights on %s in", prefix), err)
}

// mayRead counts the keys of a prefix.
func (c *Client) mayRead(ctx context.Context, prefix string) error {
	_, err := c.etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	return err
}

// mayWrite sends a transaction whose writes are in the branch that is not
// executed: a transaction without a condition always succeeds. etcd checks the
// rights of both branches first (measured with 3.4.23). The two keys are the
// first and one near the end of the prefix.
func (c *Client) mayWrite(ctx context.Context, prefix string) error {
	_, err := c.etcd.Txn(ctx).Else(clientv3.OpPut(prefix, ""), clientv3.OpPut(prefix+"\xff", "")).Commit()
	return err
}

// Warnings returns what will soon stop the connections, such as a client
// certificate that expires within 30 days.
func (c *Client) Warnings() []string { return c.files.Warnings(time.Now()) }

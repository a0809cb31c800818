package cluster

import (
	"context"
	"encoding/json"
)

// announcement is the value of a key below networksPrefix.
type announcement struct {
	Host string `json:"host"`
}

// AnnounceNetwork records, before a host creates the global Docker network of a
// pool, that it does so. A power cut can bind the pool to a network that then does
// not exist. With this record such a pool is not taken for one of local networks.
// The caller must hold the lock on the pool.
func (c *Client) AnnounceNetwork(ctx context.Context, pool, host string) error {
	value, err := json.Marshal(announcement{host})
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	if _, err := c.etcd.Put(ctx, networksPrefix+pool, string(value)); err != nil {
		return c.wrapError("announce the network of pool "+sanitize(pool)+" in", err)
	}
	return nil
}

// AnnouncedBy returns the host that announced a network for the pool and has not
// finished. It returns "" if no host did, and "unknown" if the record cannot be
// decoded.
func (c *Client) AnnouncedBy(ctx context.Context, pool string) (string, error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, networksPrefix+pool)
	if err != nil {
		return "", c.wrapError("read the announced network of pool "+sanitize(pool)+" from", err)
	}
	if len(resp.Kvs) == 0 {
		return "", nil
	}
	var a announcement
	if value := resp.Kvs[0].Value; len(value) > maxValue || json.Unmarshal(value, &a) != nil || a.Host == "" {
		return "unknown", nil
	}
	return sanitize(a.Host), nil
}

// EndAnnouncement removes the record of AnnounceNetwork after the network exists.
// It is not an error if the record does not exist.
func (c *Client) EndAnnouncement(ctx context.Context, pool string) error {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	if _, err := c.etcd.Delete(ctx, networksPrefix+pool); err != nil {
		return c.wrapError("end the announcement of pool "+sanitize(pool)+" in", err)
	}
	return nil
}

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
)

// maxRecord limits a host's record, in bytes.
const maxRecord = 16 << 10

// HostRecord is the state that a host reports in etcd. It must not contain
// secrets, because all users of etcd can read it.
type HostRecord struct {
	Name         string    `json:"name"`              // the host name
	Address      string    `json:"address,omitempty"` // of its node
	Version      string    `json:"version,omitempty"` // firstboot's
	ConfigDigest string    `json:"config_digest,omitempty"`
	Machine      string    `json:"machine,omitempty"` // the machine identity, as status shows it
	State        string    `json:"state"`             // as status reports it: running, complete, failed, …
	Stage        string    `json:"stage,omitempty"`   // the current or failed stage
	Attempt      int       `json:"attempt,omitempty"`
	Started      time.Time `json:"started,omitzero"`
	Finished     time.Time `json:"finished,omitzero"`
	Updated      time.Time `json:"updated"`         // when this was written, by the host's clock
	Error        string    `json:"error,omitempty"` // the writer masks secrets
	Hint         string    `json:"hint,omitempty"`
}

// StateUnreadable is the State of a record that cannot be decoded. Error gives
// the reason.
const StateUnreadable = "unreadable"

// hostName matches the host names that Calico accepts.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// PutHostRecord writes or replaces a host's record. It expires after ttl unless
// it is written again; with 0 it does not expire.
func (c *Client) PutHostRecord(ctx context.Context, r HostRecord, ttl time.Duration) error {
	if !hostName.MatchString(r.Name) || len(r.Name) > maxName {
		return fmt.Errorf("cannot record host %q: not a host name", sanitize(r.Name))
	}
	value, err := encodeRecord(r)
	if err != nil {
		return fmt.Errorf("cannot record host %s: %w", r.Name, err)
	}
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	var options []clientv3.OpOption
	if ttl > 0 {
		granted, err := c.etcd.Grant(ctx, int64(max(ttl, minTTL).Round(time.Second)/time.Second))
		if err != nil {
			return c.wrapError("record this host in", err)
		}
		options = append(options, clientv3.WithLease(granted.ID))
	}
	if _, err := c.etcd.Put(ctx, hostsPrefix+r.Name, string(value), options...); err != nil {
		return c.wrapError("record this host in", err)
	}
	return nil
}

// encodeRecord shortens long messages. The host's own status has the full text.
func encodeRecord(r HostRecord) ([]byte, error) {
	r.Error, r.Hint = sanitize(r.Error), sanitize(r.Hint)
	value, err := json.Marshal(r)
	if err == nil && len(value) > maxRecord {
		err = fmt.Errorf("it has %d bytes, more than %d", len(value), maxRecord)
	}
	return value, err
}

// HostRecords reads all records, sorted by name. A record that cannot be decoded
// has the state StateUnreadable.
func (c *Client) HostRecords(ctx context.Context) ([]HostRecord, error) {
	var list []HostRecord
	err := c.forEach(ctx, hostsPrefix, func(kv *mvccpb.KeyValue) {
		name := strings.TrimPrefix(string(kv.Key), hostsPrefix)
		r, err := decodeRecord(kv.Value)
		if err == nil && r.Name != name {
			err = fmt.Errorf("it names host %q", sanitize(r.Name))
		}
		if err != nil {
			r = HostRecord{Name: sanitize(name), State: StateUnreadable, Error: err.Error()}
		}
		list = append(list, r)
	})
	if err != nil {
		return nil, c.wrapError("list the hosts in", err)
	}
	return list, nil
}

// DeleteHostRecord removes a host's record. It is not an error if there is none.
func (c *Client) DeleteHostRecord(ctx context.Context, name string) error {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	if _, err := c.etcd.Delete(ctx, hostsPrefix+name); err != nil {
		return c.wrapError("remove host "+sanitize(name)+" from", err)
	}
	return nil
}

// decodeRecord decodes a record. Unknown fields are ignored, because a newer
// version may have written them.
func decodeRecord(value []byte) (HostRecord, error) {
	var r HostRecord
	if len(value) > maxRecord {
		return r, fmt.Errorf("its record has more than %d bytes", maxRecord)
	}
	if err := json.NewDecoder(bytes.NewReader(value)).Decode(&r); err != nil {
		return r, fmt.Errorf("its record cannot be decoded: %s", sanitize(err.Error()))
	}
	for _, text := range []*string{&r.Name, &r.Address, &r.Version, &r.ConfigDigest, &r.Machine, &r.State, &r.Stage, &r.Error, &r.Hint} {
		*text = sanitize(*text)
	}
	return r, nil
}

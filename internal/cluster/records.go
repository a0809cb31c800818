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

// maxRecord bounds a host's record, in bytes: a thousand hosts' fit into a few
// megabytes.
const maxRecord = 16 << 10

// HostRecord is what a host tells the others. It holds nothing secret: whoever
// reaches etcd reads it.
type HostRecord struct {
	Name         string    `json:"name"`              // the host name
	Address      string    `json:"address,omitempty"` // of its node
	Version      string    `json:"version,omitempty"` // firstboot's
	ConfigDigest string    `json:"config_digest,omitempty"`
	Machine      string    `json:"machine,omitempty"` // its identity, as status shows it
	State        string    `json:"state"`             // as status says it: running, complete, failed, …
	Stage        string    `json:"stage,omitempty"`   // at which it is, or failed
	Attempt      int       `json:"attempt,omitempty"`
	Started      time.Time `json:"started,omitzero"`
	Finished     time.Time `json:"finished,omitzero"`
	Updated      time.Time `json:"updated"`         // when this was written, by the host's clock
	Error        string    `json:"error,omitempty"` // masked by who writes it
	Hint         string    `json:"hint,omitempty"`
}

// StateUnreadable is the State of a record that cannot be understood; Error
// says why.
const StateUnreadable = "unreadable"

// hostName is what a record may be called: a host name as Calico takes it.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// PutHostRecord writes this host's record over the one before. With a ttl it
// goes by itself when it is not written again in time; 0 keeps it.
func (c *Client) PutHostRecord(ctx context.Context, r HostRecord, ttl time.Duration) error {
	if !hostName.MatchString(r.Name) || len(r.Name) > maxName {
		return fmt.Errorf("cannot record host %q: it is no host name", clean(r.Name))
	}
	value, err := encodeRecord(r)
	if err != nil {
		return fmt.Errorf("cannot record host %s: %w", r.Name, err)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var options []clientv3.OpOption
	if ttl > 0 {
		granted, err := c.etcd.Grant(ctx, int64(max(ttl, minTTL).Round(time.Second)/time.Second))
		if err != nil {
			return c.fail("record this host in", err)
		}
		options = append(options, clientv3.WithLease(granted.ID))
	}
	if _, err := c.etcd.Put(ctx, hostsPrefix+r.Name, string(value), options...); err != nil {
		return c.fail("record this host in", err)
	}
	return nil
}

// encodeRecord cuts long messages: the host's own status has them whole.
func encodeRecord(r HostRecord) ([]byte, error) {
	r.Error, r.Hint = clean(r.Error), clean(r.Hint)
	value, err := json.Marshal(r)
	if err == nil && len(value) > maxRecord {
		err = fmt.Errorf("it has %d bytes, more than %d", len(value), maxRecord)
	}
	return value, err
}

// HostRecords lists the hosts that reported, by name. A record that cannot be
// understood is listed as StateUnreadable.
func (c *Client) HostRecords(ctx context.Context) ([]HostRecord, error) {
	var list []HostRecord
	err := c.each(ctx, hostsPrefix, func(kv *mvccpb.KeyValue) {
		name := strings.TrimPrefix(string(kv.Key), hostsPrefix)
		r, err := decodeRecord(kv.Value)
		if err == nil && r.Name != name {
			err = fmt.Errorf("it names host %q", clean(r.Name))
		}
		if err != nil {
			r = HostRecord{Name: clean(name), State: StateUnreadable, Error: err.Error()}
		}
		list = append(list, r)
	})
	if err != nil {
		return nil, c.fail("list the hosts in", err)
	}
	return list, nil
}

// DeleteHostRecord removes a host's record; one that is not there is no error.
func (c *Client) DeleteHostRecord(ctx context.Context, name string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if _, err := c.etcd.Delete(ctx, hostsPrefix+name); err != nil {
		return c.fail("remove host "+clean(name)+" from", err)
	}
	return nil
}

// decodeRecord reads a record; fields that it does not know are a newer
// version's.
func decodeRecord(value []byte) (HostRecord, error) {
	var r HostRecord
	if len(value) > maxRecord {
		return r, fmt.Errorf("its record has more than %d bytes", maxRecord)
	}
	if err := json.NewDecoder(bytes.NewReader(value)).Decode(&r); err != nil {
		return r, fmt.Errorf("its record cannot be read: %s", clean(err.Error()))
	}
	for _, text := range []*string{&r.Name, &r.Address, &r.Version, &r.ConfigDigest, &r.Machine, &r.State, &r.Stage, &r.Error, &r.Hint} {
		*text = clean(*text)
	}
	return r, nil
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
)

// pageSize is the number of values in one response of a list. It limits the size
// of the responses of a cluster with thousands of hosts.
const pageSize = 500

// ClusterInformation reads Calico's ClusterInformation. It returns nil if Calico
// has not been used in this cluster.
func (c *Client) ClusterInformation(ctx context.Context) (*ClusterInfo, error) {
	return getOne(ctx, c, "ClusterInformation", "clusterinformations", "default", func(kv *mvccpb.KeyValue) (ClusterInfo, error) {
		return decodeClusterInfo(kv.Value)
	})
}

// Pool reads an IPPool. It returns nil if it does not exist.
func (c *Client) Pool(ctx context.Context, name string) (*IPPool, error) {
	return getOne(ctx, c, "IPPool", "ippools", name, decodePoolKV)
}

// Pools reads all IPPools, sorted by name. With an error it returns those that
// could be decoded.
func (c *Client) Pools(ctx context.Context) ([]IPPool, error) {
	return listAll(ctx, c, "IPPool", "ippools", decodePoolKV)
}

// Node reads a Node. It returns nil if it does not exist.
func (c *Client) Node(ctx context.Context, name string) (*Node, error) {
	return getOne(ctx, c, "Node", "nodes", name, decodeNodeKV)
}

// Nodes reads all Nodes, sorted by name. With an error it returns those that
// could be decoded.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return listAll(ctx, c, "Node", "nodes", decodeNodeKV)
}

// Profile reads a Profile. It returns nil if it does not exist.
func (c *Client) Profile(ctx context.Context, name string) (*Profile, error) {
	return getOne(ctx, c, "Profile", "profiles", name, func(kv *mvccpb.KeyValue) (Profile, error) {
		p, err := decodeProfile(kv.Value)
		p.Revision = kv.ModRevision
		return p, err
	})
}

func decodePoolKV(kv *mvccpb.KeyValue) (IPPool, error) {
	p, err := decodePool(kv.Value)
	p.Revision = kv.ModRevision
	return p, err
}

func decodeNodeKV(kv *mvccpb.KeyValue) (Node, error) {
	n, err := decodeNode(kv.Value)
	n.Revision = kv.ModRevision
	return n, err
}

// getOne reads one resource. plural is its kind as the key spells it.
func getOne[T any](ctx context.Context, c *Client, kind, plural, name string, decode func(*mvccpb.KeyValue) (T, error)) (*T, error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, calicoPrefix+plural+"/"+name)
	if err != nil {
		return nil, c.wrapError(fmt.Sprintf("read %s %s from", kind, name), err)
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	resource, err := decode(resp.Kvs[0])
	if err != nil {
		return nil, dataError(kind, name, err)
	}
	return &resource, nil
}

// listAll reads all resources of a kind.
func listAll[T any](ctx context.Context, c *Client, kind, plural string, decode func(*mvccpb.KeyValue) (T, error)) ([]T, error) {
	var list []T
	var damaged []error
	err := c.forEach(ctx, calicoPrefix+plural+"/", func(kv *mvccpb.KeyValue) {
		resource, err := decode(kv)
		if err != nil {
			name := strings.TrimPrefix(string(kv.Key), calicoPrefix+plural+"/")
			damaged = append(damaged, dataError(kind, sanitize(name), err))
			return
		}
		list = append(list, resource)
	})
	if err != nil {
		return list, c.wrapError(fmt.Sprintf("list the %ss in", kind), err)
	}
	return list, errors.Join(damaged...)
}

// forEach calls use for every value under a prefix, in the order of the keys. All
// values are of the same revision.
func (c *Client) forEach(ctx context.Context, prefix string, use func(*mvccpb.KeyValue)) error {
	next, end, revision := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
	for {
		page, err := c.page(ctx, next, end, revision)
		if err != nil {
			return err
		}
		for _, kv := range page.Kvs {
			use(kv)
		}
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		next = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		revision = page.Header.Revision
	}
}

func (c *Client) page(ctx context.Context, from, end string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	return c.etcd.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
}

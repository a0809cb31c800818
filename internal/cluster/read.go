package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
)

// pageSize is how many values a list reads at once, so that a cluster of
// thousands of hosts fits into answers of bounded size.
const pageSize = 500

// ClusterInformation reads what Calico notes about the cluster; nil where
// Calico was never here.
func (c *Client) ClusterInformation(ctx context.Context) (*ClusterInfo, error) {
	return one(ctx, c, "ClusterInformation", "clusterinformations", "default", func(kv *mvccpb.KeyValue) (ClusterInfo, error) {
		return decodeClusterInfo(kv.Value)
	})
}

// Pool reads an IPPool; nil where there is none of that name.
func (c *Client) Pool(ctx context.Context, name string) (*IPPool, error) {
	return one(ctx, c, "IPPool", "ippools", name, poolOf)
}

// Pools lists the IPPools by name. With an error it returns those that could
// be read.
func (c *Client) Pools(ctx context.Context) ([]IPPool, error) {
	return all(ctx, c, "IPPool", "ippools", poolOf)
}

// Node reads a Node; nil where there is none of that name.
func (c *Client) Node(ctx context.Context, name string) (*Node, error) {
	return one(ctx, c, "Node", "nodes", name, nodeOf)
}

// Nodes lists the Nodes by name. With an error it returns those that could be
// read.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return all(ctx, c, "Node", "nodes", nodeOf)
}

// Profile reads a Profile; nil where there is none of that name.
func (c *Client) Profile(ctx context.Context, name string) (*Profile, error) {
	return one(ctx, c, "Profile", "profiles", name, func(kv *mvccpb.KeyValue) (Profile, error) {
		p, err := decodeProfile(kv.Value)
		p.Revision = kv.ModRevision
		return p, err
	})
}

func poolOf(kv *mvccpb.KeyValue) (IPPool, error) {
	p, err := decodePool(kv.Value)
	p.Revision = kv.ModRevision
	return p, err
}

func nodeOf(kv *mvccpb.KeyValue) (Node, error) {
	n, err := decodeNode(kv.Value)
	n.Revision = kv.ModRevision
	return n, err
}

// one reads one resource.
func one[T any](ctx context.Context, c *Client, kind, folder, name string, decode func(*mvccpb.KeyValue) (T, error)) (*T, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, calicoPrefix+folder+"/"+name)
	if err != nil {
		return nil, c.fail(fmt.Sprintf("read %s %s from", kind, name), err)
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	resource, err := decode(resp.Kvs[0])
	if err != nil {
		return nil, fmt.Errorf("cannot understand %s %s in etcd: %w", kind, name, err)
	}
	return &resource, nil
}

// all reads all resources of a kind.
func all[T any](ctx context.Context, c *Client, kind, folder string, decode func(*mvccpb.KeyValue) (T, error)) ([]T, error) {
	var list []T
	var damaged []error
	err := c.each(ctx, calicoPrefix+folder+"/", func(kv *mvccpb.KeyValue) {
		resource, err := decode(kv)
		if err != nil {
			name := strings.TrimPrefix(string(kv.Key), calicoPrefix+folder+"/")
			damaged = append(damaged, fmt.Errorf("cannot understand %s %s in etcd: %w", kind, clean(name), err))
			return
		}
		list = append(list, resource)
	})
	if err != nil {
		return list, c.fail(fmt.Sprintf("list the %ss in", kind), err)
	}
	return list, errors.Join(damaged...)
}

// each calls use with every value under a prefix, in the keys' order, as they
// all were at one moment.
func (c *Client) each(ctx context.Context, prefix string, use func(*mvccpb.KeyValue)) error {
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
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.etcd.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
}

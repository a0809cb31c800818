package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	api "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	"github.com/projectcalico/calico/libcalico-go/lib/options"
	etcd "go.etcd.io/etcd/client/v3"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// networkAnnotation holds the ID of the Docker network that uses the pool.
	networkAnnotation = "org.projectcalico.label.network.ID"
	poolPrefix        = "/calico/resources/v3/projectcalico.org/ippools/"
)

// oldPool is the pool type of the real plugin's Calico client (June 2018).
// Newer fields (vxlanMode, blockSize, nodeSelector, …) are lost when a pool is
// read into it and written back, as with the real plugin.
type oldPool struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata,omitempty"`
	Spec            oldSpec `json:"spec,omitempty"`
}

type oldSpec struct {
	CIDR        string `json:"cidr"`
	IPIPMode    string `json:"ipipMode,omitempty"`
	NATOutgoing bool   `json:"natOutgoing,omitempty"`
	Disabled    bool   `json:"disabled,omitempty"`
}

// bindPools writes the network's ID to every pool with one of these CIDRs. Like
// the real plugin, it overwrites the ID of another network with the same CIDR.
func (c etcdClients) bindPools(ctx context.Context, cidrs []string, networkID string) error {
	all, err := c.pools.Get(ctx, poolPrefix, etcd.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range all.Kvs {
		var pool oldPool
		if err := json.Unmarshal(kv.Value, &pool); err != nil {
			return fmt.Errorf("cannot read the pool %s: %w", kv.Key, err)
		}
		for _, cidr := range cidrs {
			if pool.Spec.CIDR != cidr {
				continue
			}
			if pool.Annotations == nil {
				pool.Annotations = map[string]string{}
			}
			pool.Annotations[networkAnnotation] = networkID
			if err := c.rewrite(ctx, string(kv.Key), kv.ModRevision, pool); err != nil {
				return err
			}
			log.Printf("bound pool %s to the network %s", pool.Name, networkID)
		}
	}
	return nil
}

// rewrite writes the pool back. It fails if the pool has changed since it was
// read at revision.
func (c etcdClients) rewrite(ctx context.Context, key string, revision int64, pool oldPool) error {
	data, err := json.Marshal(pool)
	if err != nil {
		return err
	}
	done, err := c.pools.Txn(ctx).
		If(etcd.Compare(etcd.ModRevision(key), "=", revision)).
		Then(etcd.OpPut(key, string(data))).Commit()
	if err != nil {
		return err
	}
	if !done.Succeeded {
		return fmt.Errorf("update conflict: pool %s", pool.Name)
	}
	return nil
}

// errNoPool is the real plugin's error for a network to which no pool is bound.
var errNoPool = errors.New("The requested subnet must match the CIDR of a configured Calico IP Pool") //nolint:staticcheck // the real plugin's message

// poolOf finds the pool that is bound to a network. Like the real plugin, it
// fails if no pool has the annotation, and no container can start.
func (c etcdClients) poolOf(ctx context.Context, networkID string) (string, error) {
	pools, err := c.calico.IPPools().List(ctx, options.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, p := range pools.Items {
		if p.Annotations[networkAnnotation] == networkID {
			return p.Name, nil
		}
	}
	log.Printf("no pool is bound to the network %s", networkID)
	return "", errNoPool
}

// ensureProfile creates the pool's profile if it does not exist. Like that of
// the real plugin, the profile drops traffic from every endpoint that has no
// label with the pool's name. No endpoint has this label.
func (c etcdClients) ensureProfile(ctx context.Context, name string) error {
	profiles := c.calico.Profiles()
	if _, err := profiles.Get(ctx, name, options.GetOptions{}); err == nil {
		return nil
	}
	p := api.NewProfile()
	p.Name = name
	p.Spec.Egress = []api.Rule{{Action: api.Allow}}
	p.Spec.Ingress = []api.Rule{{Action: api.Allow, Source: api.EntityRule{Selector: fmt.Sprintf("has(%s)", name)}}}
	_, err := profiles.Create(ctx, p, options.SetOptions{})
	return ignoreExists(err)
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	api "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	"github.com/projectcalico/calico/libcalico-go/lib/options"
	etcd "go.etcd.io/etcd/client/v3"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// networkAnnotation binds a pool to the ID of a Docker network.
	networkAnnotation = "org.projectcalico.label.network.ID"
	poolPrefix        = "/calico/resources/v3/projectcalico.org/ippools/"
)

// oldPool is a pool as the real plugin's Calico client of June 2018 knows it.
// What came later (vxlanMode, blockSize, nodeSelector, …) is lost when a pool
// is read into it and written back: the trap is kept on purpose.
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

// bindPools writes the network's ID on every pool with one of these CIDRs. A
// second network over the same CIDR steals the pool, as with the real one.
func (s stores) bindPools(ctx context.Context, cidrs []string, networkID string) error {
	all, err := s.raw.Get(ctx, poolPrefix, etcd.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range all.Kvs {
		var pool oldPool
		if err := json.Unmarshal(kv.Value, &pool); err != nil {
			return fmt.Errorf("%s: %w", kv.Key, err)
		}
		for _, cidr := range cidrs {
			if pool.Spec.CIDR != cidr {
				continue
			}
			if pool.Annotations == nil {
				pool.Annotations = map[string]string{}
			}
			pool.Annotations[networkAnnotation] = networkID
			if err := s.rewrite(ctx, string(kv.Key), kv.ModRevision, pool); err != nil {
				return err
			}
			log.Printf("pool %s is bound to the network %s", pool.Name, networkID)
		}
	}
	return nil
}

// rewrite puts the pool back unless somebody else has written it meanwhile.
func (s stores) rewrite(ctx context.Context, key string, revision int64, pool oldPool) error {
	data, err := json.Marshal(pool)
	if err != nil {
		return err
	}
	done, err := s.raw.Txn(ctx).
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

// poolOf finds the pool that is bound to a network; without the annotation
// there is none, and no container starts, as with the real one.
func (s stores) poolOf(ctx context.Context, networkID string) (string, error) {
	pools, err := s.calico.IPPools().List(ctx, options.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, p := range pools.Items {
		if p.Annotations[networkAnnotation] == networkID {
			return p.Name, nil
		}
	}
	return "", fmt.Errorf("the requested subnet must match the CIDR of a configured Calico IP pool (no pool is bound to the network %s)", networkID)
}

// needProfile makes the pool's profile where there is none: one that drops
// what comes from endpoints without a label of the pool's name, and no
// endpoint has it. The trap is kept on purpose.
func (s stores) needProfile(ctx context.Context, name string) error {
	profiles := s.calico.Profiles()
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

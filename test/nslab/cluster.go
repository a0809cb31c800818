package nslab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	etcd "go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/test/lab/certs"
	"github.com/projecteru2/firstboot/test/lab/labnet"
)

const (
	// Network is the name of the pool and of Docker's networks.
	Network = "firstboot"
	// Pool is the CIDR of the pool.
	Pool = "10.213.0.0/16"
	// localID is the network ID in the annotation of a pool without a global network.
	localID    = "firstboot-" + Network
	annotation = "org.projectcalico.label.network.ID"

	etcdTimeout = 20 * time.Second
	// endpointsTimeout limits the time after which etcd and Docker must agree.
	endpointsTimeout = 30 * time.Second
	// certsDir is the directory of a host's certificates.
	certsDir = "/etc/firstboot/etcd"
)

// hostCerts are the paths of the certificates on every host; empty without TLS.
func (l *Lab) hostCerts() certs.Files {
	if !l.tls() {
		return certs.Files{}
	}
	return certs.Files{CA: certsDir + "/ca.crt", Cert: certsDir + "/client.crt", Key: certsDir + "/client.key"}
}

// writeCerts writes the certificate of etcd's user to a host.
func (h *Host) writeCerts(ctx context.Context) error {
	if !h.lab.tls() {
		return nil
	}
	from := h.lab.certificates.Of(labnet.User)
	to := h.lab.hostCerts()
	for path, file := range map[string]string{to.CA: from.CA, to.Cert: from.Cert, to.Key: from.Key} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := h.Write(ctx, path, string(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeCalicoctlConfig writes the configuration of calicoctl on a host.
func (h *Host) writeCalicoctlConfig(ctx context.Context) error {
	files := h.lab.hostCerts()
	config, err := json.Marshal(map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": "CalicoAPIConfig", "metadata": map[string]any{},
		"spec": map[string]any{
			"datastoreType": "etcdv3", "etcdEndpoints": h.lab.Etcd.Endpoint,
			"etcdCACertFile": files.CA, "etcdCertFile": files.Cert, "etcdKeyFile": files.Key,
		},
	})
	if err != nil {
		return err
	}
	return h.Write(ctx, "/etc/calico/calicoctl.cfg", string(config), 0o600)
}

// poolDocument returns the pool, with the network ID in its annotation unless it is
// empty.
func poolDocument(networkID string) map[string]any {
	metadata := map[string]any{"name": Network}
	if networkID != "" {
		metadata["annotations"] = map[string]any{annotation: networkID}
	}
	return map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": metadata,
		"spec": map[string]any{
			"cidr": Pool, "natOutgoing": true, "ipipMode": "Never", "vxlanMode": "Never", "blockSize": 26, "nodeSelector": "all()",
		},
	}
}

// CreatePool creates the allow-all profile and the pool.
func (h *Host) CreatePool(ctx context.Context, networkID string) error {
	allow := []any{map[string]any{"action": "Allow"}}
	profile := map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": "Profile", "metadata": map[string]any{"name": Network},
		"spec": map[string]any{"ingress": allow, "egress": allow},
	}
	for _, document := range []map[string]any{profile, poolDocument(networkID)} {
		text, err := json.Marshal(document)
		if err != nil {
			return err
		}
		if _, err := h.Input(ctx, string(text), "calicoctl", "create", "-f", "-"); err != nil {
			return err
		}
	}
	return nil
}

const (
	poolKey        = "/calico/resources/v3/projectcalico.org/ippools/" + Network
	endpointPrefix = "/calico/resources/v3/projectcalico.org/workloadendpoints/"
)

// get reads keys of etcd.
func (l *Lab) get(ctx context.Context, key string, options ...etcd.OpOption) ([]*mvccpb.KeyValue, error) {
	client, err := l.Etcd.Client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	limited, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	got, err := client.Get(limited, key, options...)
	if err != nil {
		return nil, err
	}
	return got.Kvs, nil
}

// PoolObject returns the pool as it is in etcd.
func (l *Lab) PoolObject(ctx context.Context) (string, error) {
	got, err := l.get(ctx, poolKey)
	if err != nil || len(got) != 1 {
		return "", fmt.Errorf("cannot read the pool: found %d: %w", len(got), err)
	}
	return string(got[0].Value), nil
}

// WaitEndpoints waits until etcd has an endpoint for every container of every host,
// and no other.
func (l *Lab) WaitEndpoints(ctx context.Context) error {
	return eventually(ctx, endpointsTimeout, "the endpoints in etcd", func() error {
		var want, got []string
		for _, h := range l.Hosts {
			all, err := h.endpoints(ctx)
			if err != nil {
				return err
			}
			for _, id := range all {
				want = append(want, h.Name+" "+id)
			}
		}
		keys, err := l.get(ctx, endpointPrefix, etcd.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range keys {
			var endpoint struct {
				Spec struct{ Node, Endpoint string }
			}
			if err := json.Unmarshal(kv.Value, &endpoint); err != nil {
				return fatalError{err}
			}
			got = append(got, endpoint.Spec.Node+" "+endpoint.Spec.Endpoint)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			return fmt.Errorf("the containers have\n%s\netcd has\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
		return nil
	})
}

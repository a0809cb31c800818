package nslab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	etcd "go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/test/lab/certs"
	"github.com/projecteru2/firstboot/test/lab/labnet"
)

const (
	// Network is the name of the pool and of Docker's networks.
	Network = "firstboot"
	// Pool is the CIDR of the pool.
	Pool = "10.213.0.0/16"

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

// CreatePool creates the allow-all profile and the pool, as the stage pool does:
// without a network ID for a global network, which the plugin then binds.
func (h *Host) CreatePool(ctx context.Context, networkID string) error {
	pool := calico.IPPool(h.config.Pool)
	if networkID != "" {
		pool = calico.BoundIPPool(h.config.Pool, networkID)
	}
	return errors.Join(
		calico.Create(ctx, h.machine(), calico.Profile(h.config.Pool)),
		calico.Create(ctx, h.machine(), pool))
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

// Links returns the names of the plugin's interfaces on the host, of both ends.
func (h *Host) Links() ([]string, error) {
	names, err := h.files().ReadDir("/sys/class/net")
	return slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, "cali") && !strings.HasPrefix(name, "temp")
	}), err
}

// WaitLinks waits until the host has an interface for every endpoint of its
// containers, and no other.
func (h *Host) WaitLinks(ctx context.Context) error {
	return eventually(ctx, endpointsTimeout, "the interfaces of "+h.Name, func() error {
		want, err := h.endpoints(ctx)
		if err != nil {
			return err
		}
		for i, id := range want {
			want[i] = "cali" + id[:11]
		}
		slices.Sort(want)
		got, err := h.Links()
		if err == nil && !slices.Equal(want, got) {
			err = fmt.Errorf("the containers have %q, the host has %q", want, got)
		}
		return err
	})
}

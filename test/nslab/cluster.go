package nslab

import (
	"context"
	"encoding/json"
	"os"

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

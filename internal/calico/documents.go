package calico

import "github.com/projecteru2/firstboot/internal/config"

const (
	apiVersion = "projectcalico.org/v3"
	// NetworkIDAnnotation binds an IPPool to its Docker network: the plugin finds
	// the pool of a network by this annotation.
	NetworkIDAnnotation = "org.projectcalico.label.network.ID"
	// VXLANMode is the vxlanMode of every pool: the plugin strips the field, so it
	// cannot use a pool with VXLAN.
	VXLANMode = "Never"
)

// Document is an object of the cluster, as calicoctl creates it.
type Document struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Spec       map[string]any `json:"spec"`
}

// Profile returns a Profile that lets containers on the pool's network reach each
// other. The Profile that the plugin would create under the pool's name does not.
func Profile(pool config.Pool) Document {
	allow := []any{map[string]any{"action": "Allow"}}
	return Document{
		apiVersion, "Profile", map[string]any{"name": pool.Name},
		map[string]any{"ingress": allow, "egress": allow},
	}
}

// BoundIPPool returns the cluster's IPPool with the annotation of local networks.
func BoundIPPool(pool config.Pool, networkID string) Document {
	d := IPPool(pool)
	d.Metadata["annotations"] = map[string]string{NetworkIDAnnotation: networkID}
	return d
}

// IPPool returns the cluster's IPPool.
func IPPool(pool config.Pool) Document {
	return Document{apiVersion, "IPPool", map[string]any{"name": pool.Name}, map[string]any{
		"cidr": pool.CIDR.String(), "blockSize": pool.BlockSize, "natOutgoing": pool.NATOutgoing,
		"ipipMode": pool.IPIP, "vxlanMode": VXLANMode, "nodeSelector": "all()",
	}}
}

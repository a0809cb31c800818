package cluster

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Endpoint is a WorkloadEndpoint: the interface of a container on a host.
type Endpoint struct {
	Name         string
	Node         string
	Orchestrator string // "libnetwork" for Docker's plugin
	ID           string // the orchestrator's; for Docker's plugin Docker's endpoint ID
	Interface    string // on the host
}

// Endpoints reads the WorkloadEndpoints of a namespace, or of all namespaces if it
// is empty. Docker's plugin uses the host name as the namespace. With an error it
// returns those that could be decoded.
func (c *Client) Endpoints(ctx context.Context, namespace string) ([]Endpoint, error) {
	kind := "workloadendpoints"
	if namespace != "" {
		kind += "/" + namespace
	}
	return listAll(ctx, c, "WorkloadEndpoint", kind, func(kv *mvccpb.KeyValue) (Endpoint, error) { return decodeEndpoint(kv.Value) })
}

func decodeEndpoint(value []byte) (Endpoint, error) {
	var spec struct {
		Node          string `json:"node"`
		Orchestrator  string `json:"orchestrator"`
		Endpoint      string `json:"endpoint"`
		InterfaceName string `json:"interfaceName"`
	}
	r, err := decodeResource("WorkloadEndpoint", value, &spec)
	if err != nil {
		return Endpoint{}, err
	}
	return Endpoint{
		Name: r.Metadata.Name, Node: sanitize(spec.Node), Orchestrator: sanitize(spec.Orchestrator),
		ID: sanitize(spec.Endpoint), Interface: sanitize(spec.InterfaceName),
	}, nil
}

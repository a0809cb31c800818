package host

import (
	"context"
	"net/http"
)

// DockerNetwork is a Docker network.
type DockerNetwork struct {
	ID      string `json:"Id"`
	Name    string
	Scope   string
	Driver  string
	Options map[string]string
	IPAM    struct {
		Driver string
		Config []struct{ Subnet string }
	}
}

// Bridge returns the name of the bridge that was chosen for the network, or "" if
// Docker names it.
func (n DockerNetwork) Bridge() string { return n.Options["com.docker.network.bridge.name"] }

// Subnets lists the network's subnets.
func (n DockerNetwork) Subnets() []string {
	var subnets []string
	for _, c := range n.IPAM.Config {
		subnets = append(subnets, c.Subnet)
	}
	return subnets
}

// Networks lists all networks.
func (d *Docker) Networks(ctx context.Context) ([]DockerNetwork, error) {
	var list []DockerNetwork
	err := d.call(ctx, http.MethodGet, "/networks", nil, nil, &list)
	return list, err
}

// CreateNetwork creates a network with one subnet and returns its ID.
func (d *Docker) CreateNetwork(ctx context.Context, name, driver, ipam, subnet string) (string, error) {
	body := map[string]any{
		"Name": name, "Driver": driver, "CheckDuplicate": true,
		"IPAM": map[string]any{"Driver": ipam, "Config": []any{map[string]string{"Subnet": subnet}}},
	}
	var created struct {
		ID string `json:"Id"`
	}
	err := d.call(ctx, http.MethodPost, "/networks/create", nil, body, &created)
	return created.ID, err
}

// DisconnectContainer removes a container's endpoint from a network, even if
// the container no longer exists and only the network's store still lists it.
func (d *Docker) DisconnectContainer(ctx context.Context, network, container string) error {
	body := map[string]any{"Container": container, "Force": true}
	return d.call(ctx, http.MethodPost, "/networks/"+network+"/disconnect", nil, body, nil)
}

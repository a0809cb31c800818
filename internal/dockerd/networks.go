package dockerd

import (
	"context"
	"net/http"
	"regexp"
	"slices"
)

// ScopeLocal is the scope of a network that only its host knows.
const ScopeLocal = "local"

// Network is a Docker network.
type Network struct {
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
func (n Network) Bridge() string { return n.Options["com.docker.network.bridge.name"] }

// defaultBridges matches the names that Docker gives to its bridges. That of a
// network has the first 12 digits of the network's ID.
var defaultBridges = regexp.MustCompile(`^(docker0|docker_gwbridge|br-[0-9a-f]{12})$`)

// IsBridge reports whether a bridge of this name is Docker's: its name is one that
// Docker chooses, or one of the networks names it.
func IsBridge(name string, networks []Network) bool {
	return defaultBridges.MatchString(name) || slices.ContainsFunc(networks, func(n Network) bool { return n.Bridge() == name })
}

// Subnets lists the network's subnets.
func (n Network) Subnets() []string {
	var subnets []string
	for _, c := range n.IPAM.Config {
		subnets = append(subnets, c.Subnet)
	}
	return subnets
}

// Networks lists all networks.
func (d *Client) Networks(ctx context.Context) ([]Network, error) {
	var list []Network
	err := d.call(ctx, http.MethodGet, "/networks", nil, nil, &list)
	return list, err
}

// networkQueries is the number of times that Docker's list must lack the network
// before the network counts as missing. On a busy machine Docker 20.10.24 has
// returned, without an error, a list without the networks of its cluster store.
// Such an answer took 3 s while etcd was slow, so Docker probably gave up on
// etcd, and a pause between the queries is not needed. Whether three are enough
// was not measured.
const networkQueries = 3

// Network finds a network by name. It is nil if it does not exist, or if Docker
// could not read its cluster store.
func (d *Client) Network(ctx context.Context, name string) (*Network, error) {
	return d.find(ctx, networkQueries, func(n Network) bool { return n.Name == name })
}

// ListedNetwork finds a network by name in one list. That is enough if the network is
// local, or probably missing.
func (d *Client) ListedNetwork(ctx context.Context, name string) (*Network, error) {
	return d.find(ctx, 1, func(n Network) bool { return n.Name == name })
}

// HasNetwork reports whether a network with this ID exists. It may be false if
// Docker could not read its cluster store.
func (d *Client) HasNetwork(ctx context.Context, id string) (bool, error) {
	n, err := d.find(ctx, networkQueries, func(n Network) bool { return n.ID == id })
	return n != nil, err
}

func (d *Client) find(ctx context.Context, queries int, is func(Network) bool) (*Network, error) {
	for range queries {
		list, err := d.Networks(ctx)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(list, is); i >= 0 {
			return &list[i], nil
		}
		if api, err := d.api(ctx); err == nil && api.newerThan(lastAPIWithStore) {
			break
		}
	}
	return nil, nil
}

// CreateNetwork creates a network with one subnet and returns its ID.
func (d *Client) CreateNetwork(ctx context.Context, name, driver, ipam, subnet string) (string, error) {
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

// RemoveNetwork removes a network, if it exists. While a cluster-store is in
// effect, it would remove a global network for all hosts.
func (d *Client) RemoveNetwork(ctx context.Context, id string) error {
	err := d.call(ctx, http.MethodDelete, "/networks/"+id, nil, nil, nil)
	if NotFound(err) {
		return nil
	}
	return err
}

// DisconnectContainer removes a container's endpoint from a network, even if
// the container no longer exists and only the network's store still lists it.
func (d *Client) DisconnectContainer(ctx context.Context, network, container string) error {
	body := map[string]any{"Container": container, "Force": true}
	return d.call(ctx, http.MethodPost, "/networks/"+network+"/disconnect", nil, body, nil)
}

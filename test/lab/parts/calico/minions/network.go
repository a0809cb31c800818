package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-plugins-helpers/network"
	v3 "github.com/projectcalico/calico/libcalico-go/lib/apis/v3"
	calicoerrors "github.com/projectcalico/calico/libcalico-go/lib/errors"
	"github.com/projectcalico/calico/libcalico-go/lib/names"
	"github.com/projectcalico/calico/libcalico-go/lib/options"
)

const (
	// orchestrator and workload are the same for all endpoints. Endpoints are
	// distinguished by the host and Docker's endpoint ID.
	orchestrator = "libnetwork"
	workload     = "libnetwork"
	// nextHop is every container's gateway. No interface has this address:
	// the host answers for it by proxy ARP.
	nextHop = "169.254.1.1"
	// connectedRoute is libnetwork's type of a route without a gateway.
	connectedRoute = 1
)

// networkDriver creates a Calico workload endpoint for each Docker endpoint.
type networkDriver struct {
	etcdClients
	docker    dockerClient
	namespace string
	prefix    string // of the container's interface: cali0
	mtu       int
	profiles  bool
}

func newNetworkDriver(clients etcdClients) (networkDriver, error) {
	host, err := hostname()
	if err != nil {
		return networkDriver{}, err
	}
	docker, err := newDockerClient()
	if err != nil {
		return networkDriver{}, err
	}
	d := networkDriver{
		etcdClients: clients,
		docker:      docker,
		namespace:   getenv("CALICO_LIBNETWORK_NAMESPACE", host),
		prefix:      getenv("CALICO_LIBNETWORK_IFPREFIX", "cali"),
		profiles:    !strings.EqualFold(os.Getenv("CALICO_LIBNETWORK_CREATE_PROFILES"), "false"),
	}
	if text := os.Getenv("CALICO_LIBNETWORK_VETH_MTU"); text != "" {
		mtu, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return networkDriver{}, fmt.Errorf("CALICO_LIBNETWORK_VETH_MTU=%s is not an MTU", text)
		}
		d.mtu = int(mtu)
	}
	return d, nil
}

func (networkDriver) GetCapabilities() (*network.CapabilitiesResponse, error) {
	return &network.CapabilitiesResponse{Scope: "global"}, nil
}

// CreateNetwork binds the pools of the network's subnets to it. Docker calls
// it only on the host where the network is created.
func (d networkDriver) CreateNetwork(r *network.CreateNetworkRequest) error {
	if err := refuseOptions(r.Options); err != nil {
		return err
	}
	var cidrs []string
	for _, data := range r.IPv4Data {
		if data.Gateway != noGateway {
			return errors.New("a non-Calico IPAM driver is used")
		}
		cidrs = append(cidrs, data.Pool)
	}
	ctx, cancel := callContext()
	defer cancel()
	return d.bindPools(ctx, cidrs, r.NetworkID)
}

// refuseOptions refuses every option except --ipv6, also enable_ipv4, which
// Docker 28 adds.
func refuseOptions(all map[string]any) error {
	var given []string
	for key, value := range all {
		set := true
		switch v := value.(type) {
		case bool:
			set = v
		case map[string]any:
			set = len(v) > 0
		}
		if set && key != "com.docker.network.enable_ipv6" {
			given = append(given, "--"+strings.TrimPrefix(key, "com.docker.network."))
		}
	}
	if len(given) == 0 {
		return nil
	}
	slices.Sort(given)
	return fmt.Errorf("Calico driver does not support the flag %s.", strings.Join(given, ", ")) //nolint:staticcheck // the real plugin's message
}

func (networkDriver) DeleteNetwork(*network.DeleteNetworkRequest) error { return nil }

// CreateEndpoint creates the workload endpoint. Its MAC address is not known yet.
func (d networkDriver) CreateEndpoint(r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	if r.Interface == nil || r.Interface.Address == "" {
		return nil, errors.New("no address assigned for the endpoint")
	}
	ip, _, err := net.ParseCIDR(r.Interface.Address)
	if err != nil {
		return nil, err
	}
	host, err := hostname()
	if err != nil {
		return nil, err
	}
	name, err := endpointName(host, r.EndpointID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := callContext()
	defer cancel()
	pool, err := d.poolOf(ctx, r.NetworkID)
	if err != nil {
		return nil, err
	}
	endpoint := v3.NewWorkloadEndpoint()
	endpoint.Name, endpoint.Namespace = name, d.namespace
	endpoint.Spec.Node, endpoint.Spec.Endpoint = host, r.EndpointID
	endpoint.Spec.Orchestrator, endpoint.Spec.Workload = orchestrator, workload
	endpoint.Spec.InterfaceName = hostEnd(r.EndpointID)
	endpoint.Spec.MAC = r.Interface.MacAddress
	endpoint.Spec.IPNetworks = []string{ip.String() + "/32"}
	if d.profiles {
		endpoint.Spec.Profiles = []string{pool}
		if err := d.ensureProfile(ctx, pool); err != nil {
			return nil, err
		}
	}
	if _, err := d.calico.WorkloadEndpoints().Create(ctx, endpoint, options.SetOptions{}); err != nil {
		return nil, err
	}
	log.Printf("created endpoint %s with address %s of pool %s", name, ip, pool)
	return &network.CreateEndpointResponse{Interface: &network.EndpointInterface{}}, nil
}

func (d networkDriver) DeleteEndpoint(r *network.DeleteEndpointRequest) error {
	host, err := hostname()
	if err != nil {
		return err
	}
	name, err := endpointName(host, r.EndpointID)
	if err != nil {
		return err
	}
	ctx, cancel := callContext()
	defer cancel()
	_, err = d.calico.WorkloadEndpoints().Delete(ctx, d.namespace, name, options.DeleteOptions{})
	return err
}

// Join creates the veth pair. Docker moves one end into the container. Like the
// real plugin, Join records the MAC address at once. If udevd then changes the
// address, Felix programs the wrong one, and no packet from another host
// reaches the container.
func (d networkDriver) Join(r *network.JoinRequest) (*network.JoinResponse, error) {
	host, err := os.Hostname() // not hostname(), like the real plugin: they differ if HOSTNAME is set
	if err != nil {
		return nil, err
	}
	name, err := endpointName(host, r.EndpointID)
	if err != nil {
		return nil, err
	}
	mac, err := createVeth(r.EndpointID, d.mtu)
	if err != nil {
		return nil, err
	}
	ctx, cancel := callContext()
	defer cancel()
	endpoint, err := d.calico.WorkloadEndpoints().Get(ctx, d.namespace, name, options.GetOptions{})
	if err != nil {
		return nil, err
	}
	endpoint.Spec.MAC = mac
	if _, err := d.calico.WorkloadEndpoints().Update(ctx, endpoint, options.SetOptions{}); err != nil {
		return nil, err
	}
	answer := &network.JoinResponse{
		InterfaceName: network.InterfaceName{SrcName: containerEnd(r.EndpointID), DstPrefix: d.prefix},
		Gateway:       nextHop,
		StaticRoutes:  []*network.StaticRoute{{Destination: nextHop + "/32", RouteType: connectedRoute}},
	}
	// If IPv6 is enabled, the link has a link-local address, and Docker fails
	// to add a route to it, as with the real plugin.
	if ip := linkLocal(r.EndpointID); ip != "" {
		answer.GatewayIPv6 = ip
		answer.StaticRoutes = append(answer.StaticRoutes, &network.StaticRoute{Destination: ip + "/128", RouteType: connectedRoute})
	}
	return answer, nil
}

// Leave removes the veth pair. Like the real plugin, it first finds the
// container by Docker's API and the pool by the container's network, and fails if
// it cannot: the pair then remains on the host.
func (d networkDriver) Leave(r *network.LeaveRequest) error {
	ctx, cancel := callContext()
	defer cancel()
	container, endpoint, err := d.docker.containerOf(ctx, r.EndpointID)
	if err != nil {
		return err
	}
	pool, err := d.poolOf(ctx, endpoint.NetworkID)
	if err != nil {
		return err
	}
	if err := d.reserve(ctx, container, reservation{PoolID: pool, Address: endpoint.IPAddress}); err != nil {
		log.Printf("cannot reserve the address %s: %v", endpoint.IPAddress, err)
	}
	return removeVeth(r.EndpointID)
}

// reserve reserves a container's address if its label or a mark requests this.
func (d networkDriver) reserve(ctx context.Context, c dockerContainer, r reservation) error {
	marked, err := d.barrel.takeMark(ctx, r)
	if !c.keepsAddress() && !marked {
		return err
	}
	return errors.Join(err, d.barrel.reserve(ctx, r, c.ID))
}

// EndpointInfo answers null, like the real plugin.
func (networkDriver) EndpointInfo(*network.InfoRequest) (*network.InfoResponse, error) {
	return nil, nil
}

// Calls of swarm mode and notifications have no effect.

func (networkDriver) AllocateNetwork(*network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	return &network.AllocateNetworkResponse{}, nil
}
func (networkDriver) FreeNetwork(*network.FreeNetworkRequest) error       { return nil }
func (networkDriver) DiscoverNew(*network.DiscoveryNotification) error    { return nil }
func (networkDriver) DiscoverDelete(*network.DiscoveryNotification) error { return nil }
func (networkDriver) ProgramExternalConnectivity(*network.ProgramExternalConnectivityRequest) error {
	return nil
}
func (networkDriver) RevokeExternalConnectivity(*network.RevokeExternalConnectivityRequest) error {
	return nil
}

func endpointName(host, endpointID string) (string, error) {
	return names.WorkloadEndpointIdentifiers{
		Node: host, Orchestrator: orchestrator, Workload: workload, Endpoint: endpointID,
	}.CalculateWorkloadEndpointName(false)
}

func ignoreExists(err error) error {
	if _, exists := err.(calicoerrors.ErrorResourceAlreadyExists); exists {
		return nil
	}
	return err
}

package nslab

import (
	"context"
	"net/netip"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/state"
)

// names of services.
const (
	containerdService = "containerd"
	dockerService     = "dockerd"
	pluginService     = "eru-minions"
	adapterService    = "adapter"
	tunnelService     = "etcd-tunnel"
	busService        = "bus"
)

const (
	ipamSocket = "/run/docker/plugins/calico-ipam.sock"
	// tunnelEndpoint is where firstboot's tunnel listens.
	tunnelEndpoint = "http://127.0.0.1:23790"
	// waitPlugin runs before each start of Docker, as in docker.service's drop-in.
	waitPlugin = "firstboot wait-plugin --for 2m || :"
)

// startPlugin starts eru-minions. Its sockets appear when it has connected to etcd.
func (h *Host) startPlugin(ctx context.Context, environment ...string) error {
	if err := h.start(service{name: pluginService, env: environment, args: []string{"eru-minions"}}); err != nil {
		return err
	}
	return h.waitSocket(ctx, ipamSocket)
}

// startGlobal starts the services of a host with a global network, as its units do
// at every boot.
func (h *Host) startGlobal(ctx context.Context) error {
	// With IPv6 on, the plugin's answer to Join makes Docker fail.
	if _, err := h.Run(ctx, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"); err != nil {
		return err
	}
	if err := h.startPlugin(ctx, "ETCD_ENDPOINTS="+h.lab.Etcd.Endpoint); err != nil {
		return err
	}
	return h.startDocker(ctx)
}

// startLocal starts the services of a host with a local network, as its units do at
// every boot.
func (h *Host) startLocal(ctx context.Context) error {
	endpoint := h.lab.Etcd.Endpoint
	if h.lab.tls() {
		endpoint = tunnelEndpoint
		if err := h.start(service{name: tunnelService, args: []string{"firstboot", "etcd-tunnel"}}); err != nil {
			return err
		}
	}
	if _, err := h.Run(ctx, "mkdir", "-p", "-m", "0755", "/run/firstboot/adapter"); err != nil {
		return err
	}
	if err := h.start(service{name: adapterService, listen: adapter.Socket, args: []string{"firstboot", "adapter"}}); err != nil {
		return err
	}
	if err := h.startPlugin(ctx, "ETCD_ENDPOINTS="+endpoint, "CALICO_CNM="+adapter.PluginName); err != nil {
		return err
	}
	return h.startDocker(ctx)
}

// startServices starts what the host's units start at every boot.
func (h *Host) startServices(ctx context.Context) error {
	if err := h.start(service{name: busService, args: []string{busFile}}); err != nil {
		return err
	}
	if h.global {
		return h.startGlobal(ctx)
	}
	return h.startLocal(ctx)
}

// Join makes a booted host a member of the cluster, except for its network.
func (h *Host) Join(ctx context.Context) error {
	if err := h.writeCerts(ctx); err != nil {
		return err
	}
	if err := h.writeCalicoctlConfig(ctx); err != nil {
		return err
	}
	if err := h.writeRecords(ctx); err != nil {
		return err
	}
	if h.global {
		if err := h.writeDaemonConfig(ctx); err != nil {
			return err
		}
	}
	if err := h.startServices(ctx); err != nil {
		return err
	}
	if err := h.loadImages(ctx); err != nil {
		return err
	}
	if err := h.startNode(ctx); err != nil {
		return err
	}
	return h.waitNode(ctx)
}

// Reboot boots a host after a power cut, and starts its services.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.Boot(ctx); err != nil {
		return err
	}
	return h.startServices(ctx)
}

// CreateGlobalNetwork creates the pool and the network of all hosts, and then
// repairs what the plugin removes from the pool.
func (h *Host) CreateGlobalNetwork(ctx context.Context) (networkID string, err error) {
	if err := h.CreatePool(ctx, ""); err != nil {
		return "", err
	}
	id, err := h.createNetwork(ctx)
	if err != nil {
		return "", err
	}
	_, err = h.Run(ctx, "calicoctl", "patch", "ippool", Network, "-p",
		`{"metadata":{"annotations":{"`+annotation+`":"`+id+`"}},"spec":{"vxlanMode":"Never"}}`)
	return id, err
}

// CreateLocalNetwork creates this host's network over the pool with this network ID
// in its annotation.
func (h *Host) CreateLocalNetwork(ctx context.Context, networkID string) error {
	network := adapter.Network{ID: networkID, CIDR: netip.MustParsePrefix(Pool)}
	if _, err := h.Run(ctx, "mkdir", "-p", "-m", "0700", state.Dir); err != nil {
		return err
	}
	if err := network.Save(h.files()); err != nil {
		return err
	}
	_, err := h.createNetwork(ctx)
	return err
}

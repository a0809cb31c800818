package nslab

import (
	"context"
	"strings"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// names of services.
const (
	containerdService = "containerd"
	dockerService     = "dockerd"
	pluginService     = "eru-minions"
	adapterService    = "adapter"
	tunnelService     = "etcd-tunnel"
	busService        = "bus"
	nodeService       = "calico-node"
)

const (
	// waitPlugin runs before each start of Docker, as in docker.service's drop-in.
	waitPlugin = "firstboot wait-plugin --for 2m || :"
)

// startPlugin starts eru-minions. Its sockets appear when it has connected to etcd.
func (h *Host) startPlugin(ctx context.Context) error {
	environment, err := h.pluginEnvironment()
	if err != nil {
		return err
	}
	if err := h.start(service{name: pluginService, env: environment, args: []string{"eru-minions"}}); err != nil {
		return err
	}
	for _, socket := range minions.Sockets(!h.global) {
		if err := h.waitSocket(ctx, socket.Path); err != nil {
			return err
		}
	}
	return nil
}

// pluginEnvironment returns the variables that systemd sets for the plugin: those of
// its environment file, and of firstboot's drop-in.
func (h *Host) pluginEnvironment() ([]string, error) {
	conf, err := h.files().ReadFile(minions.ConfPath)
	if err != nil {
		return nil, err
	}
	variables := strings.Fields(string(conf))
	dropIn, err := h.files().ReadFile(units.MinionsDropIn)
	for line := range strings.Lines(string(dropIn)) {
		if variable, found := strings.CutPrefix(strings.TrimSpace(line), "Environment="); found {
			variables = append(variables, variable)
		}
	}
	return variables, err
}

// startGlobal starts the services of a host with a global network, as its units do
// at every boot.
func (h *Host) startGlobal(ctx context.Context) error {
	// With IPv6 on, the plugin's answer to Join makes Docker fail.
	if _, err := h.Run(ctx, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"); err != nil {
		return err
	}
	if err := h.startPlugin(ctx); err != nil {
		return err
	}
	return h.startDocker(ctx)
}

// startLocal starts the services of a host with a local network, as its units do at
// every boot.
func (h *Host) startLocal(ctx context.Context) error {
	if h.config.Etcd.TLS() {
		if err := h.start(service{name: tunnelService, args: []string{"firstboot", "etcd-tunnel"}}); err != nil {
			return err
		}
	}
	if _, err := h.Run(ctx, "mkdir", "-p", "-m", "0755", "/run/firstboot/adapter"); err != nil { // RuntimeDirectory=
		return err
	}
	if err := h.start(service{name: adapterService, listen: adapter.Socket, args: []string{"firstboot", "adapter"}}); err != nil {
		return err
	}
	if err := h.startPlugin(ctx); err != nil {
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
	if err := h.writeRecords(ctx); err != nil {
		return err
	}
	if err := h.writeFiles(ctx); err != nil {
		return err
	}
	if err := h.startServices(ctx); err != nil {
		return err
	}
	if err := h.loadImages(ctx); err != nil {
		return err
	}
	if err := h.startNode(); err != nil {
		return err
	}
	return h.waitNode(ctx)
}

// writeFiles writes the configuration of the components, as the stages do.
func (h *Host) writeFiles(ctx context.Context) error {
	ctl, err := calico.CtlConfig(h.config.Etcd)
	if err != nil {
		return err
	}
	files := append(minions.Files(h.config, !h.global), ctl)
	if h.global {
		daemon, err := dockerd.StoreFile(h.machine(), dockerd.ClusterStore(h.config), h.Address)
		if err != nil {
			return err
		}
		files = append(files, daemon)
	}
	for _, f := range files {
		if err := h.Write(ctx, f.Path, string(f.Data), f.Mode); err != nil {
			return err
		}
	}
	return nil
}

// Reboot boots a host after a power cut, and starts its services.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.Boot(ctx); err != nil {
		return err
	}
	if err := h.startServices(ctx); err != nil {
		return err
	}
	return h.startNode()
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
	return id, calico.RepairPool(ctx, h.machine(), Network, id)
}

// CreateLocalNetwork creates this host's network over the pool with this network ID
// in its annotation.
func (h *Host) CreateLocalNetwork(ctx context.Context, networkID string) error {
	network := adapter.Network{ID: networkID, CIDR: h.config.Pool.CIDR}
	if _, err := h.Run(ctx, "mkdir", "-p", "-m", "0700", state.Dir); err != nil {
		return err
	}
	if err := network.Save(h.files()); err != nil {
		return err
	}
	_, err := h.createNetwork(ctx)
	return err
}

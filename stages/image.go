package stages

import (
	"fmt"
	"net/netip"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// ImageFiles lists those files of the stage "config" that udev, NetworkManager
// and Docker read at boot before the stage runs. For a global network that is
// configured, Docker then starts with its cluster-store and needs no reload or
// restart; a Docker without cluster-stores would not start. All other
// files depend on the machine, or must wait until preflight has passed.
func ImageFiles(c *config.Config, h *host.Host) ([]host.File, error) {
	list := []host.File{calico.LinkFile()}
	manager, err := managerImageFile(h)
	if err != nil {
		return nil, err
	}
	list = append(list, manager...)
	store := dockerd.ClusterStore(c)
	if store == "" || c.Docker.Network != config.NetworkGlobal {
		return list, nil
	}
	daemon, err := dockerd.StoreFile(h, store, netip.Addr{})
	if err != nil {
		return nil, err
	}
	if key := dockerd.ReadSettings(h).OtherStoreOption(); key != "" {
		return nil, engine.WithHint(fmt.Errorf("cannot set the cluster-store in %s: cluster-store-opts sets %s", dockerd.ConfigPath, key), storeOptionFix)
	}
	return append(list, daemon), nil
}

package stages

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// ImageFile is a file that a machine image can contain before its first boot.
type ImageFile struct {
	Path string
	Data []byte
	Mode fs.FileMode
}

// ImageFiles lists those files of the stage "config" that udev, NetworkManager
// and Docker read at boot before the stage runs. With daemon.json in the image,
// Docker starts with its cluster store and needs no reload or restart. All other
// files depend on the machine, or must wait until preflight has passed.
func ImageFiles(c *config.Config, h *host.Host) ([]ImageFile, error) {
	list := []ImageFile{{linkPath, []byte(linkFile), 0o644}}
	manager, err := managerImageFile(h)
	if err != nil {
		return nil, err
	}
	if manager != nil {
		list = append(list, *manager)
	}
	store := clusterStore(c)
	if store == "" {
		return list, nil
	}
	have, err := h.ReadFile(DaemonPath)
	if err != nil && !host.NotExist(err) {
		return nil, err
	}
	data, err := MergeDaemon(have, map[string]any{"cluster-store": store})
	if err != nil {
		return nil, fmt.Errorf("cannot merge %s: %w", DaemonPath, err)
	}
	if key := storeOption(have); key != "" {
		return nil, engine.WithHint(fmt.Errorf("cannot set the cluster-store in %s: cluster-store-opts sets %s", DaemonPath, key), storeOptionFix)
	}
	return append(list, ImageFile{h.Target(DaemonPath), data, daemonMode(h)}), nil
}

// storeWithoutAdvertise reports whether a daemon.json sets the cluster store but
// no address to advertise, as in an image. Docker uses the address to discover
// hosts for overlay networks; a plugin's global network works without it
// (measured on Docker 20.10.24). But a reload sets a first store only together
// with an address.
func storeWithoutAdvertise(have []byte, store string) bool {
	var daemon map[string]any
	if json.Unmarshal(have, &daemon) != nil {
		return false
	}
	_, advertised := daemon["cluster-advertise"]
	return daemon["cluster-store"] == store && !advertised
}

// advertise adds the address to a daemon.json that lacks it, for the reload of
// a Docker that started before the file was written.
func (s docker) advertise(ctx context.Context) error {
	have, err := s.Host.ReadFile(DaemonPath)
	if err != nil {
		return err
	}
	store := clusterStore(s.Config)
	if !storeWithoutAdvertise(have, store) {
		return nil
	}
	f, err := s.mergeStore(ctx, have, store)
	if err != nil {
		return err
	}
	return f.write(s.Host)
}

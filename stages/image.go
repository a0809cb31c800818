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

// ImageFile is a file that an image can have before its first boot.
type ImageFile struct {
	Path string
	Data []byte
	Mode fs.FileMode
}

// ImageFiles lists what the stage "config" would write that others read at
// boot before it can: udev, NetworkManager, and Docker, which then starts with
// its cluster store and needs neither a reload nor a restart. Everything else
// depends on the machine, or waits until preflight has looked at it.
func ImageFiles(c *config.Config, h *host.Host) ([]ImageFile, error) {
	list := []ImageFile{{linkPath, []byte(linkFile), 0o644}}
	if h.Exists(networkManagerDir) {
		list = append(list, ImageFile{networkManagerPath, []byte(networkManagerFile), 0o644})
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
		return nil, engine.WithHint(fmt.Errorf("cannot merge %s: %w", DaemonPath, err), "repair the file; Docker itself would not start with it")
	}
	return append(list, ImageFile{DaemonPath, data, daemonMode(h)}), nil
}

// storeWithoutAdvertise tells a daemon.json that names the cluster store and no address
// to advertise, as an image has it. The address serves Docker's own discovery
// for overlay networks; global networks of a plugin work without it (measured
// on Docker 20.10.24). Only a reload takes a first store together with an
// address and never alone, so one is written where the store is new.
func storeWithoutAdvertise(have []byte, store string) bool {
	var daemon map[string]any
	if json.Unmarshal(have, &daemon) != nil {
		return false
	}
	_, advertised := daemon["cluster-advertise"]
	return daemon["cluster-store"] == store && !advertised
}

// advertise completes a daemon.json that has the store alone, for the reload
// of a daemon that started before the file was there.
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

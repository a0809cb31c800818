package dockerd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
)

// storeKeys are the keys of daemon.json that belong to a cluster-store. Docker 23
// and later do not start with one of them.
func storeKeys() []string {
	return []string{"cluster-store", "cluster-advertise", "cluster-store-opts"}
}

// ConfiguredStore returns the cluster-store in daemon.json, or "".
func ConfiguredStore(h *host.Host) string {
	var daemon struct {
		Store string `json:"cluster-store"`
	}
	if data, err := readConfig(h); err == nil {
		_ = json.Unmarshal(data, &daemon) // Docker does not start with a damaged file either
	}
	return daemon.Store
}

// HasStoreKeys reports whether daemon.json has a key of a cluster-store.
func HasStoreKeys(h *host.Host) bool {
	var daemon map[string]any
	data, err := readConfig(h)
	if err != nil || json.Unmarshal(data, &daemon) != nil {
		return false
	}
	return slices.ContainsFunc(storeKeys(), func(key string) bool {
		_, has := daemon[key]
		return has
	})
}

// IsOwnStore reports whether firstboot sets this cluster-store on a host with a
// global network.
func IsOwnStore(c *config.Config, store string) bool {
	derived := *c
	derived.Docker.ClusterStore = config.ClusterStoreAuto
	return store != "" && (store == ClusterStore(c) || store == ClusterStore(&derived))
}

// FileWithoutStore returns daemon.json without the keys of a cluster-store.
func FileWithoutStore(h *host.Host) (host.File, error) {
	have, err := readConfig(h)
	if err != nil {
		return host.File{}, err
	}
	daemon := map[string]any{}
	if len(bytes.TrimSpace(have)) > 0 {
		if daemon, err = decodeConfig(have); err != nil {
			return host.File{}, fmt.Errorf("cannot change %s: %w", ConfigPath, err)
		}
	}
	maps.DeleteFunc(daemon, func(key string, _ any) bool { return slices.Contains(storeKeys(), key) })
	data, err := json.MarshalIndent(daemon, "", "  ")
	return host.File{Path: h.Target(ConfigPath), Data: append(data, '\n'), Mode: configMode(h)}, err
}

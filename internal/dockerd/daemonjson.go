package dockerd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// ConfigPath is Docker's configuration file.
const ConfigPath = "/etc/docker/daemon.json"

// ClusterStore returns Docker's cluster-store, the store of its global networks,
// as a value for daemon.json. It is empty if firstboot does not change Docker's
// configuration.
func ClusterStore(c *config.Config) string {
	switch c.Docker.ClusterStore {
	case config.ClusterStoreOff:
		return ""
	case config.ClusterStoreAuto, "":
		var hosts []string
		for _, endpoint := range c.Etcd.Endpoints {
			if u, err := url.Parse(endpoint); err == nil {
				hosts = append(hosts, u.Host)
			}
		}
		return "etcd://" + strings.Join(hosts, ",")
	}
	return c.Docker.ClusterStore
}

// advertisePort is the port in cluster-advertise. Docker uses the address only
// to distinguish the hosts, and nothing listens on it. Docker's documentation
// uses 2376.
const advertisePort = 2376

// StoreFile returns daemon.json with the cluster store merged into its present
// content, and with the address to advertise if it is valid.
func StoreFile(h *host.Host, store string, address netip.Addr) (host.File, error) {
	have, err := readConfig(h)
	if err != nil {
		return host.File{}, err
	}
	set := map[string]any{"cluster-store": store}
	if address.IsValid() {
		set["cluster-advertise"] = fmt.Sprintf("%s:%d", address, advertisePort)
	}
	data, err := Merge(have, set)
	if err != nil {
		return host.File{}, fmt.Errorf("cannot merge %s: %w", ConfigPath, err)
	}
	return host.File{Path: h.Target(ConfigPath), Data: data, Mode: configMode(h)}, nil
}

// StoreLacksAddress reports whether daemon.json sets the cluster store but no
// address to advertise, as in an image. Docker uses the address to discover hosts
// for overlay networks; a plugin's global network works without it (measured on
// Docker 20.10.24). But a reload sets a first store only together with an
// address.
func StoreLacksAddress(h *host.Host, store string) (bool, error) {
	have, err := readConfig(h)
	if err != nil {
		return false, err
	}
	var daemon map[string]any
	if json.Unmarshal(have, &daemon) != nil {
		return false, nil //nolint:nilerr // Merge reports a damaged file
	}
	_, advertised := daemon["cluster-advertise"]
	return daemon["cluster-store"] == store && !advertised, nil
}

// readConfig reads daemon.json. It is empty if it does not exist.
func readConfig(h *host.Host) ([]byte, error) {
	data, err := h.ReadFile(ConfigPath)
	if host.NotExist(err) {
		return nil, nil
	}
	return data, err
}

// configMode returns the mode of daemon.json, which is kept: the file may hold
// secrets.
func configMode(h *host.Host) fs.FileMode {
	if info, err := h.Stat(ConfigPath); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}

// Merge sets keys in have, the content of a daemon.json. It returns have
// unchanged if all of them are set already, so that a hand-written file keeps
// its formatting.
func Merge(have []byte, set map[string]any) ([]byte, error) {
	merged := map[string]any{}
	if len(bytes.TrimSpace(have)) > 0 {
		var err error
		if merged, err = decodeConfig(have); err != nil {
			return nil, err
		}
	}
	changed := len(have) == 0
	for key, value := range set {
		if merged[key] != value {
			merged[key], changed = value, true
		}
	}
	if !changed {
		return have, nil
	}
	data, err := json.MarshalIndent(merged, "", "  ")
	return append(data, '\n'), err
}

// decodeConfig decodes a daemon.json that is not empty. Errors have a hint.
func decodeConfig(data []byte) (map[string]any, error) {
	var decoded map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&decoded); err != nil {
		return nil, engine.WithHint(fmt.Errorf("not a JSON object: %w", err), "repair the file; Docker cannot start with it either")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, engine.WithHint(errors.New("more than one JSON value"), "Docker reads only the first value: remove the rest, or merge it into the first")
	}
	if decoded == nil {
		return nil, engine.WithHint(errors.New("not a JSON object: null"), "replace it with {}, which means the same to Docker")
	}
	return decoded, nil
}

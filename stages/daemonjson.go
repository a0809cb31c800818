package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// DaemonPath is Docker's configuration file.
const DaemonPath = "/etc/docker/daemon.json"

// join returns the items of list with commas between them.
func join(list []string) string { return strings.Join(list, ",") }

// clusterStore returns Docker's cluster-store, the store of its global networks,
// as a value for daemon.json. It is empty if firstboot does not change Docker's
// configuration.
func clusterStore(c *config.Config) string {
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
		return "etcd://" + join(hosts)
	}
	return c.Docker.ClusterStore
}

// advertisePort is the port in cluster-advertise. Docker uses the address only
// to distinguish the hosts, and nothing listens on it. Docker's documentation
// uses 2376.
const advertisePort = 2376

// daemonFile returns daemon.json with the cluster store merged into its present
// content. It is nil if firstboot does not change Docker's configuration.
func (e *Env) daemonFile(ctx context.Context) (*file, error) {
	store := clusterStore(e.Config)
	if store == "" {
		return nil, nil
	}
	have, err := e.Host.ReadFile(DaemonPath)
	if err != nil && !host.NotExist(err) {
		return nil, err
	}
	if storeWithoutAdvertise(have, store) {
		return &file{e.Host.Target(DaemonPath), have, daemonMode(e.Host)}, nil
	}
	return e.mergeStore(ctx, have, store)
}

// mergeStore merges the cluster store and the address to advertise into have,
// the content of daemon.json.
func (e *Env) mergeStore(ctx context.Context, have []byte, store string) (*file, error) {
	addr, err := e.address(ctx)
	if err != nil {
		return nil, err
	}
	data, err := MergeDaemon(have, map[string]any{
		"cluster-store":     store,
		"cluster-advertise": fmt.Sprintf("%s:%d", addr, advertisePort),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot merge %s: %w", DaemonPath, err)
	}
	return &file{e.Host.Target(DaemonPath), data, daemonMode(e.Host)}, nil
}

// daemonMode returns the mode of daemon.json, which is kept: the file may hold
// secrets.
func daemonMode(h *host.Host) fs.FileMode {
	if info, err := h.Stat(DaemonPath); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}

// MergeDaemon sets keys in have, the content of a daemon.json. It returns have
// unchanged if all of them are set already, so that a hand-written file keeps
// its formatting.
func MergeDaemon(have []byte, set map[string]any) ([]byte, error) {
	merged := map[string]any{}
	if len(bytes.TrimSpace(have)) > 0 {
		d := json.NewDecoder(bytes.NewReader(have))
		d.UseNumber()
		if err := d.Decode(&merged); err != nil {
			return nil, engine.WithHint(fmt.Errorf("not a JSON object: %w", err), "repair the file; Docker cannot start with it either")
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, engine.WithHint(errors.New("more than one JSON value"), "Docker reads only the first value: remove the rest, or merge it into the first")
		}
		if merged == nil {
			return nil, engine.WithHint(errors.New("not a JSON object: null"), "replace it with {}, which means the same to Docker")
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

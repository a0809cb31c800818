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

func join(list []string) string { return strings.Join(list, ",") }

// clusterStore is the store that Docker shares its global networks through,
// as daemon.json names it; "" where Docker's configuration is left alone.
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

// advertisePort is the port that cluster-advertise names. Nothing listens
// there: Docker only wants an address to tell the hosts apart by, and 2376 is
// the one that its documentation uses.
const advertisePort = 2376

// daemonFile is daemon.json with the cluster store merged into what is there;
// nil where Docker's configuration is left alone.
func (e *Env) daemonFile(ctx context.Context) (*file, error) {
	store := clusterStore(e.Config)
	if store == "" {
		return nil, nil
	}
	have, err := e.Host.ReadFile(DaemonPath)
	if err != nil && !host.NotExist(err) {
		return nil, err
	}
	if hasStoreAlone(have, store) {
		return &file{DaemonPath, have, daemonMode(e.Host)}, nil
	}
	return e.withStore(ctx, have, store)
}

// withStore is daemon.json with the cluster store and the address to advertise.
func (e *Env) withStore(ctx context.Context, have []byte, store string) (*file, error) {
	addr, err := e.address(ctx)
	if err != nil {
		return nil, err
	}
	data, err := MergeDaemon(have, map[string]any{
		"cluster-store":     store,
		"cluster-advertise": fmt.Sprintf("%s:%d", addr, advertisePort),
	})
	if err != nil {
		return nil, engine.WithHint(fmt.Errorf("cannot merge %s: %w", DaemonPath, err),
			"repair the file; Docker itself would not start with it")
	}
	return &file{DaemonPath, data, daemonMode(e.Host)}, nil
}

// daemonMode is the mode that daemon.json keeps: who keeps it from others has
// secrets in it.
func daemonMode(h *host.Host) fs.FileMode {
	if info, err := h.Stat(DaemonPath); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}

// MergeDaemon sets keys in the text of a daemon.json. Where they are set
// already the text comes back as it is, so that a hand-written file keeps its
// form.
func MergeDaemon(have []byte, set map[string]any) ([]byte, error) {
	merged := map[string]any{}
	if len(bytes.TrimSpace(have)) > 0 {
		d := json.NewDecoder(bytes.NewReader(have))
		d.UseNumber()
		if err := d.Decode(&merged); err != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("more than one JSON value")
		}
		if merged == nil {
			return nil, errors.New("not a JSON object: null")
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

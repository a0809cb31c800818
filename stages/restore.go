package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/minions"
)

// RestoreNetwork writes adapter.json again if it is missing or damaged on a complete
// host with a local network, and reports whether it did. It must run before Docker
// starts: Docker starts the containers with a restart policy once, and the adapter
// refuses them without the file. An error names these containers.
func (e *Env) RestoreNetwork(ctx context.Context) (restored bool, err error) {
	if !minions.IsLocal(e.Host) {
		return false, nil
	}
	if _, err := adapter.Load(e.Host); err == nil {
		return false, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, staleTimeout, fmt.Errorf("timed out after %v", staleTimeout))
	defer cancel()
	err = e.withEtcd(limited, func(ctx context.Context, c *cluster.Client) error {
		p, err := c.Pool(ctx, e.Config.Pool.Name)
		switch {
		case err != nil:
			return err
		case p == nil:
			return errors.New("IPPool " + e.Config.Pool.Name + " does not exist")
		case poolAnnotation(p) == "":
			return errors.New("IPPool " + p.Name + " is not bound to a network")
		case p.CIDR != e.Config.Pool.CIDR.String():
			return fmt.Errorf("IPPool %s has the CIDR %s, expected %s", p.Name, p.CIDR, e.Config.Pool.CIDR)
		}
		return adapter.Network{ID: poolAnnotation(p), CIDR: e.Config.Pool.CIDR}.Save(e.Host)
	})
	if err == nil {
		return true, nil
	}
	lost := "containers on the network " + e.Config.Pool.NetworkName()
	if names := e.restarting(); len(names) > 0 {
		lost = "the containers " + strings.Join(names, ", ")
	}
	return false, fmt.Errorf("cannot restore %s: %w; Docker cannot start %s: run firstboot run --force, then docker start NAME", adapter.Path, err, lost)
}

// restarting returns the names of the containers on the pool's network that Docker
// starts when it starts itself.
func (e *Env) restarting() []string {
	var names []string
	for _, c := range dockerd.StoredContainers(e.Host) {
		if _, connected := c.Networks[e.Config.Pool.NetworkName()]; connected && c.Restarts {
			names = append(names, c.Name)
		}
	}
	return names
}

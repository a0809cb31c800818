package stages

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/minions"
)

// staleTimeout bounds the removal of everything that is stale. It delays
// Docker's start, and the next start removes the rest.
const staleTimeout = 30 * time.Second

// RemoveStale removes the endpoints and interfaces of containers that a power cut
// or a crash ended, and returns their numbers.
//
// It must run before Docker starts. The caller has checked that the completion
// marker is this machine's. It is best effort and ends after staleTimeout.
func (e *Env) RemoveStale(ctx context.Context) (endpoints, links int, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, staleTimeout, fmt.Errorf("timed out after %v", staleTimeout))
	defer cancel()
	if running, err := dockerd.Running(limited, e.Host); running || err != nil {
		return 0, 0, err
	}
	err = e.withEtcd(limited, func(ctx context.Context, c *cluster.Client) error {
		ours, err := e.ownsNode(ctx, c)
		if err != nil || !ours {
			return err
		}
		name := e.nodeName()
		stale := minions.Stale{Host: e.Host, Cluster: c, Node: name, Namespace: minions.Namespace(e.Config, name)}
		endpoints, links, err = stale.Remove(ctx)
		return err
	})
	if err != nil {
		err = fmt.Errorf("cannot remove all stale endpoints: %w", err)
	}
	return endpoints, links, err
}

// ownsNode reports whether the Node of this host's name has this host's address.
// A clone with the same name has another address.
func (e *Env) ownsNode(ctx context.Context, c *cluster.Client) (bool, error) {
	node, err := c.Node(ctx, strings.ToLower(e.nodeName()))
	if err != nil || node == nil || !node.Address.IsValid() {
		return false, err
	}
	address, err := e.address(ctx)
	return err == nil && address == node.Address.Addr(), err
}

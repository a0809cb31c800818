package stages

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
)

const (
	// staleTimeout bounds the removal of everything that is stale. It delays
	// Docker's start, and the next start removes the rest.
	staleTimeout = 30 * time.Second
	// deleteTimeout bounds the deletion of one endpoint.
	deleteTimeout = 5 * time.Second
	// libnetwork is the orchestrator of the plugin's endpoints.
	libnetwork = "libnetwork"
	// namespaceVariable sets the plugin's namespace, by default the host name.
	namespaceVariable = "CALICO_LIBNETWORK_NAMESPACE"
)

// RemoveStale removes the endpoints and interfaces of containers that a power cut
// or a crash ended. Docker drops its own endpoints when it starts, before it has
// loaded the plugin, and never makes the plugin delete them.
//
// It must run before Docker starts: while Docker runs, an endpoint exists before
// its interface does. The caller has checked that the completion marker is this
// machine's. It is best effort and ends after staleTimeout.
func (e *Env) RemoveStale(ctx context.Context) (endpoints, links int, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, staleTimeout, fmt.Errorf("timed out after %v", staleTimeout))
	defer cancel()
	if running, err := dockerd.Running(limited, e.Host); running || err != nil {
		return 0, 0, err
	}
	err = e.withEtcd(limited, func(ctx context.Context, c *cluster.Client) error {
		endpoints, links, err = e.removeStale(ctx, c)
		return err
	})
	if err != nil {
		err = fmt.Errorf("cannot remove all stale endpoints: %w", err)
	}
	return endpoints, links, err
}

func (e *Env) removeStale(ctx context.Context, c *cluster.Client) (endpoints, removedLinks int, err error) {
	ours, err := e.ownsNode(ctx, c)
	if err != nil || !ours {
		return 0, 0, err
	}
	namespace := e.nodeName()
	if other := e.Config.Minions.Environment[namespaceVariable].Reveal(); other != "" {
		namespace = other
	}
	all, err := c.Endpoints(ctx, namespace)
	failures := []error{err} // about values that cannot be decoded, or about etcd
	links, err := e.containerLinks()
	if err != nil {
		return 0, 0, err
	}
	for _, endpoint := range e.staleEndpoints(all, links) {
		if err := e.deleteEndpoint(ctx, endpoint.ID); err != nil {
			failures = append(failures, err)
			continue
		}
		endpoints++
	}
	if len(links) > 0 && failures[0] == nil {
		removedLinks, err = e.removeLinks(ctx, c, all, links)
		failures = append(failures, err)
	}
	return endpoints, removedLinks, errors.Join(failures...)
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

// dockerEndpoint matches the ID of an endpoint in Docker.
var dockerEndpoint = regexp.MustCompile(`^[0-9a-f]{64}$`)

// staleEndpoints returns the endpoints of this host that have no interface. Only
// those that Docker's own files name are this machine's for certain: a clone with
// the same host name has endpoints in the same place. Without such files, no
// container of this machine is left.
func (e *Env) staleEndpoints(all []cluster.Endpoint, links map[string]bool) []cluster.Endpoint {
	records, exist := dockerd.ReadRecords(e.Host)
	var stale []cluster.Endpoint
	for _, endpoint := range all {
		if endpoint.Node != e.nodeName() || endpoint.Orchestrator != libnetwork || !dockerEndpoint.MatchString(endpoint.ID) {
			continue
		}
		if links["cali"+endpoint.ID[:linkIDLength]] || links[endpoint.Interface] {
			continue
		}
		if !exist || records.Mention(endpoint.ID) {
			stale = append(stale, endpoint)
		}
	}
	return stale
}

// deleteEndpoint makes the plugin delete an endpoint, so that it also removes
// what it keeps elsewhere.
func (e *Env) deleteEndpoint(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	if err := e.Host.DeleteEndpoint(ctx, PluginSockets()[0], id); err != nil {
		return fmt.Errorf("cannot delete the endpoint %s: %w", id[:12], err)
	}
	return nil
}

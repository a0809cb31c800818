package minions

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/host"
)

// linkIDLength is how much of an endpoint's ID the plugin uses in the names of
// its interfaces, which have at most 15 characters.
const linkIDLength = 11

// pluginLink matches the names of both ends of a container's interface on the
// host. Docker moves and renames the second one.
var pluginLink = regexp.MustCompile(`^(cali|temp)[0-9a-f]{11}$`)

// interfaces returns the names of the host's interfaces.
func interfaces(h *host.Host) (map[string]bool, error) {
	names, err := h.ReadDir("/sys/class/net")
	if err != nil {
		return nil, err
	}
	links := map[string]bool{}
	for _, name := range names {
		links[name] = true
	}
	return links, nil
}

// removeLinks removes the interfaces that a plugin's call left behind when it was
// interrupted: those without an endpoint. endpoints are the plugin's own. Calico
// names the interfaces of Kubernetes' pods alike, so the endpoints of all
// namespaces are read before one is removed.
func (s Stale) removeLinks(ctx context.Context, endpoints []cluster.Endpoint, links map[string]bool) (removed int, err error) {
	left := s.withoutEndpoint(endpoints, links)
	if len(left) == 0 {
		return 0, nil
	}
	if endpoints, err = s.Cluster.Endpoints(ctx, ""); err != nil {
		return 0, err
	}
	var failures []error
	for _, name := range s.withoutEndpoint(endpoints, links) {
		err := s.Host.Network().RemoveVeth(name)
		failures = append(failures, err)
		if err == nil {
			removed++
		}
	}
	return removed, errors.Join(failures...)
}

// withoutEndpoint returns the plugin's links that belong to no endpoint, sorted.
func (s Stale) withoutEndpoint(endpoints []cluster.Endpoint, links map[string]bool) []string {
	used := map[string]bool{}
	for _, endpoint := range endpoints {
		if endpoint.Node != s.Node {
			continue
		}
		used[endpoint.Interface] = true
		if len(endpoint.ID) >= linkIDLength {
			used["cali"+endpoint.ID[:linkIDLength]], used["temp"+endpoint.ID[:linkIDLength]] = true, true
		}
	}
	var left []string
	for name := range links {
		if pluginLink.MatchString(name) && !used[name] {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	return left
}

package minions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
)

const (
	// deleteTimeout bounds the deletion of one endpoint.
	deleteTimeout = 5 * time.Second
	// libnetwork is the orchestrator of the plugin's endpoints.
	libnetwork = "libnetwork"
)

// Stale removes what the plugin keeps of containers that a power cut or a crash
// ended. Docker drops its own endpoints when it starts, before it has loaded the
// plugin, and never makes the plugin delete them.
type Stale struct {
	Host      *host.Host
	Cluster   *cluster.Client
	Node      string // this host's name, which the cluster must know as its own
	Namespace string // of the plugin's endpoints
}

// Remove removes the endpoints without a container and the interfaces without an
// endpoint, and returns their numbers. Docker must not run: while it does, an
// endpoint exists before its interface.
func (s Stale) Remove(ctx context.Context) (endpoints, links int, err error) {
	all, err := s.Cluster.Endpoints(ctx, s.Namespace)
	failures := []error{err} // about values that cannot be decoded, or about etcd
	present, err := interfaces(s.Host)
	if err != nil {
		return 0, 0, err
	}
	for _, endpoint := range s.endpoints(all, present) {
		if err := DeleteEndpoint(ctx, s.Host, endpoint.ID); err != nil {
			failures = append(failures, err)
			continue
		}
		endpoints++
		all = slices.DeleteFunc(all, func(e cluster.Endpoint) bool { return e == endpoint })
	}
	if len(present) > 0 && failures[0] == nil {
		links, err = s.removeLinks(ctx, all, present)
		failures = append(failures, err)
	}
	return endpoints, links, errors.Join(failures...)
}

// endpoints returns the endpoints of this machine that no container has.
func (s Stale) endpoints(all []cluster.Endpoint, links map[string]bool) []cluster.Endpoint {
	records, exist := dockerd.ReadRecords(s.Host)
	created, _ := adapter.Endpoints(s.Host) // an error: fewer are known
	var stale []cluster.Endpoint
	for _, endpoint := range all {
		if endpoint.Node != s.Node || endpoint.Orchestrator != libnetwork || !dockerd.IsID(endpoint.ID) {
			continue
		}
		short := endpoint.ID[:linkIDLength]
		switch {
		case links["temp"+short]: // Docker did not move it into a container
			stale = append(stale, endpoint)
		case links["cali"+short] || links[endpoint.Interface]: // a container has the other end
		// A clone with the same host name has endpoints in the same place. So it must be
		// known that the endpoint is this machine's. Without files of Docker, no
		// container of this machine is left.
		case !exist || created[endpoint.ID] || records.Mention(endpoint.ID):
			stale = append(stale, endpoint)
		}
	}
	return stale
}

// DeleteEndpoint makes the plugin delete an endpoint, so that it also removes what
// it keeps elsewhere. An endpoint that does not exist is no error.
func DeleteEndpoint(ctx context.Context, h *host.Host, id string) error {
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	err := dockerd.NewPlugin(h, NetworkSocket(IsLocal(h)).Path).DeleteEndpoint(ctx, id)
	var failed *dockerd.PluginError
	if err == nil || errors.As(err, &failed) && strings.Contains(failed.Message, "resource does not exist") {
		return nil
	}
	return fmt.Errorf("cannot delete the endpoint %.12s: %w", id, err)
}

package stages

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// etcdAndCalico waits for etcd. Then it checks that etcd serves what Calico and
// Docker need, and that this host does not conflict with the cluster's data.
func (s preflight) etcdAndCalico(ctx context.Context, _ dockerState) ([]finding, error) {
	found := s.imageVersion()
	err := s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		for _, check := range []func(context.Context, *cluster.Client) ([]finding, error){s.etcdV2, s.calicoVersion, s.nodeNameTaken} {
			more, err := check(ctx, c)
			if err != nil {
				return s.etcdWait(err)
			}
			found = append(found, more...)
		}
		return nil
	})
	if err != nil && fault.IsPermanent(err) {
		found = append(found, newFinding("etcd-v3", "etcd", errorInWait(err), "an etcd that serves the v3 API to this host", engine.Hint(err))...)
		return found, nil
	}
	return found, err
}

// errorInWait returns the text of the error that a wait wraps or, for any other
// error, its own text.
func errorInWait(err error) string {
	var wait *engine.Wait
	if errors.As(err, &wait) && wait.Err != nil {
		return wait.Err.Error()
	}
	return err.Error()
}

// etcdV2 checks that etcd serves its v2 API: Docker's cluster-store uses no
// other.
func (s preflight) etcdV2(ctx context.Context, c *cluster.Client) ([]finding, error) {
	if dockerd.ClusterStore(s.Config) == "" {
		return nil, nil
	}
	err := c.ServesV2(ctx)
	if errors.Is(err, cluster.ErrNoV2) {
		return newFinding("etcd-v2", "etcd", err.Error(), "the v2 API, which Docker's cluster-store needs", engine.Hint(err)), nil
	}
	return nil, err
}

// calicoVersion checks that calicoctl has the version of the cluster: otherwise
// it refuses to write.
func (s preflight) calicoVersion(ctx context.Context, c *cluster.Client) ([]finding, error) {
	info, err := c.ClusterInformation(ctx)
	if err != nil || info == nil || info.CalicoVersion == "" {
		return nil, err
	}
	want := s.Config.Calicoctl.Version
	if info.CalicoVersion == want {
		return nil, nil
	}
	return newFinding("calico-version", "the cluster's Calico", info.CalicoVersion, want+" (calicoctl.version)",
		"use calicoctl and a node.image of "+info.CalicoVersion+", the version of the other hosts"), nil
}

var versionTag = regexp.MustCompile(`:(v\d+\.\d+\.\d+)(@|$)`)

// imageVersion compares the node image's tag, if it is a version, with
// calicoctl's version: the first node writes its own version to the cluster.
func (s preflight) imageVersion() []finding {
	m := versionTag.FindStringSubmatch(s.Config.Node.Image)
	want := s.Config.Calicoctl.Version
	if m == nil || m[1] == want {
		return nil
	}
	return newFinding("node-image-version", "node.image "+s.Config.Node.Image, m[1], want+" (calicoctl.version)", "use one version for both")
}

// nodeNameTaken checks that no other machine has this host's node name. A Node
// with this host's address is this host, which has joined before.
func (s preflight) nodeNameTaken(ctx context.Context, c *cluster.Client) ([]finding, error) {
	name := s.nodeName()
	node, err := c.Node(ctx, strings.ToLower(name))
	if err != nil || node == nil || !node.Address.IsValid() {
		return nil, err
	}
	own, err := s.address(ctx)
	if err != nil {
		return nil, nil //nolint:nilerr // bgpAddress reports it
	}
	if node.Address.Addr() == own {
		return nil, nil
	}
	return newFinding("node-name-taken", "node "+name, "at "+node.Address.Addr().String(), "free, or at this host's "+own.String(),
		"give this host another name; or, if that machine no longer exists: calicoctl delete node "+name), nil
}

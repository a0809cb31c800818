package stages

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/engine"
)

// etcdAndCalico waits for etcd, then asks whether it serves what Calico and
// Docker need, and whether this host fits into what is there.
func (s preflight) etcdAndCalico(ctx context.Context, _ dockerView) ([]concern, error) {
	found := s.imageVersion()
	err := s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		for _, look := range []func(context.Context, *cluster.Client) ([]concern, error){s.etcdV2, s.calicoVersion, s.nodeNameTaken} {
			more, err := look(ctx, c)
			if err != nil {
				return s.etcdWait(err)
			}
			found = append(found, more...)
		}
		return nil
	})
	if err != nil && cluster.IsPermanent(err) {
		found = append(found, concernOf("etcd-v3", "etcd", errorOf(err), "an etcd that serves the v3 API to this host", engine.Hint(err))...)
		return found, nil
	}
	return found, err
}

// errorOf is an error without the wait around it.
func errorOf(err error) string {
	var wait *engine.Wait
	if errors.As(err, &wait) && wait.Err != nil {
		return wait.Err.Error()
	}
	return err.Error()
}

// etcdV2: Docker's cluster-store speaks no other protocol.
func (s preflight) etcdV2(ctx context.Context, c *cluster.Client) ([]concern, error) {
	if clusterStore(s.Config) == "" {
		return nil, nil
	}
	err := c.ServesV2(ctx)
	if errors.Is(err, cluster.ErrNoV2) {
		return concernOf("etcd-v2", "etcd", err.Error(), "the v2 API, which Docker's cluster-store needs", engine.Hint(err)), nil
	}
	return nil, err
}

// calicoVersion: calicoctl refuses to write where its version is not the
// cluster's.
func (s preflight) calicoVersion(ctx context.Context, c *cluster.Client) ([]concern, error) {
	info, err := c.ClusterInformation(ctx)
	if err != nil || info == nil || info.CalicoVersion == "" {
		return nil, err
	}
	want := s.Config.Calicoctl.Version
	if info.CalicoVersion == want {
		return nil, nil
	}
	return concernOf("calico-version", "the cluster's Calico", info.CalicoVersion, want+" (calicoctl.version)",
		"set calicoctl and node.image to "+info.CalicoVersion+", as the other hosts have"), nil
}

var versionTag = regexp.MustCompile(`:(v\d+\.\d+\.\d+)(@|$)`)

// imageVersion compares the image's tag, where it is a version, with
// calicoctl's: the first node writes its own into the cluster.
func (s preflight) imageVersion() []concern {
	m := versionTag.FindStringSubmatch(s.Config.Node.Image)
	want := s.Config.Calicoctl.Version
	if m == nil || m[1] == want {
		return nil
	}
	return concernOf("node-image-version", "node.image "+s.Config.Node.Image, m[1], want+" (calicoctl.version)", "use one version for both")
}

// nodeNameTaken compares with the Node of this name: the same address is this
// host, joined or reinstalled; another is another machine.
func (s preflight) nodeNameTaken(ctx context.Context, c *cluster.Client) ([]concern, error) {
	name := s.nodeName()
	seen, err := c.Node(ctx, strings.ToLower(name))
	if err != nil || seen == nil || !seen.Address.IsValid() {
		return nil, err
	}
	ours, err := s.address(ctx)
	if err != nil {
		return nil, err
	}
	if seen.Address.Addr() == ours {
		return nil, nil
	}
	return concernOf("node-name-taken", "node "+name, "at "+seen.Address.Addr().String(), "free, or at this host's "+ours.String(),
		"give this host another name; or, if that machine is gone: calicoctl delete node "+name), nil
}

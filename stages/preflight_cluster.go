package stages

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// etcdAndCalico waits for etcd. Then it checks that etcd serves what Calico and
// Docker need, and that this host does not conflict with the cluster's data.
func (s preflight) etcdAndCalico(ctx context.Context, d dockerState) ([]finding, error) {
	found := s.imageVersion()
	err := s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		found = append(found, certificateWarnings(c)...)
		for _, check := range []func(context.Context, *cluster.Client, dockerState) ([]finding, error){
			s.etcdRights, s.etcdV2, s.calicoVersion, s.nodeNameTaken, s.poolIsLocal,
		} {
			more, err := check(ctx, c, d)
			found = append(found, more...)
			if err != nil {
				return s.etcdWait(err)
			}
			if len(more) > 0 && more[0].Name == "etcd-rights" {
				return nil // the other queries would fail
			}
		}
		return nil
	})
	if err != nil && fault.IsPermanent(err) {
		found = append(found, newFinding("etcd-v3", "etcd", errorInWait(err), "an etcd that serves the v3 API to this host", engine.Hint(err))...)
		return found, nil
	}
	return found, err
}

// certificateWarnings warns of certificates for etcd that will soon be refused.
func certificateWarnings(c *cluster.Client) []finding {
	var found []finding
	for _, warning := range c.Warnings() {
		found = append(found, newWarning("etcd-certificate", "etcd", warning, "certificates that are valid for 30 more days, and a key that other users cannot use", "write the renewed certificate to the same path, or run the chmod")...)
	}
	return found
}

// etcdRights checks what the CN of the client certificate may do in etcd. Without
// users, etcd grants everything.
func (s preflight) etcdRights(ctx context.Context, c *cluster.Client, _ dockerState) ([]finding, error) {
	if !s.Config.Etcd.TLS() {
		return nil, nil
	}
	missing, err := c.MissingRights(ctx)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	var rights []string
	for _, m := range missing {
		rights = append(rights, m.String())
	}
	user := "the user of etcd.certFile"
	if name, err := certificate.CommonName(s.Config.Etcd.CertFile); err == nil {
		user = "user " + name
	}
	return newFinding("etcd-rights", "etcd", user+" lacks "+strings.Join(rights, ", "),
		"read and write on "+strings.Join(cluster.Prefixes(), ", "), "etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX, for each prefix"), nil
}

// poolIsLocal refuses to make a global network over a pool that hosts with local
// networks use: the plugin would bind the pool to the new network, and those hosts
// could not start containers.
func (s preflight) poolIsLocal(ctx context.Context, c *cluster.Client, d dockerState) ([]finding, error) {
	if !d.mode.global() {
		return nil, nil
	}
	p, err := c.Pool(ctx, s.Config.Pool.Name)
	if err != nil {
		return nil, err
	}
	id := poolAnnotation(p)
	if !isLocalID(id) {
		exists, err := s.mayExist(ctx, c, d, id)
		if err != nil || exists {
			return nil, err
		}
	}
	f := localPoolFinding(p.Name, id)
	return newFinding("pool-is-local", f.Object, f.Actual, f.Expected, f.Fix), nil
}

// mayExist reports whether a global network of this ID exists, will be created by
// the host that announced it, or cannot be seen: Docker only lists global networks
// while its cluster-store is in effect. The stage pool examines it again.
func (s preflight) mayExist(ctx context.Context, c *cluster.Client, d dockerState, id string) (bool, error) {
	if id == "" || d.unresponsive || d.info.ClusterStore == "" {
		return true, nil
	}
	var store engine.CheckResult
	if err := docker(s).checkStore(ctx, d.info, &store); err != nil || !store.OK() {
		return true, err
	}
	exists, err := s.docker().HasNetwork(ctx, id)
	if err != nil || exists {
		return true, nil //nolint:nilerr // Docker is busy
	}
	// With the cluster's own network nothing is created. The stage pool binds the pool
	// to it again, if somebody's second network took the annotation.
	own, err := s.docker().Network(ctx, s.Config.Pool.NetworkName())
	if err != nil || own != nil && own.Scope != dockerd.ScopeLocal {
		return true, nil //nolint:nilerr // Docker is busy
	}
	owner, err := c.AnnouncedBy(ctx, s.Config.Pool.Name)
	return owner != "", err
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
func (s preflight) etcdV2(ctx context.Context, c *cluster.Client, d dockerState) ([]finding, error) {
	if !d.mode.global() || dockerd.ClusterStore(s.Config) == "" {
		return nil, nil
	}
	err := c.ServesV2(ctx)
	if errors.Is(err, cluster.ErrNoV2) {
		return newFinding("etcd-v2", "etcd", err.Error(), "the v2 API, which Docker's cluster-store needs", engine.Hint(err)+"; or set docker.network: local"), nil
	}
	return nil, err
}

// calicoVersion checks that calicoctl has the version of the cluster: otherwise
// it refuses to write.
func (s preflight) calicoVersion(ctx context.Context, c *cluster.Client, _ dockerState) ([]finding, error) {
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
func (s preflight) nodeNameTaken(ctx context.Context, c *cluster.Client, _ dockerState) ([]finding, error) {
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

package stages

import (
	"context"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/minions"
)

// localPool is the stage pool of a host with a local network. The cluster has the
// allow-all Profile and the IPPool once; every host has its own Docker network of
// the same name, and the ID that the pool is bound to in adapter.json.
type localPool struct{ pool }

// localID returns the annotation of a pool that is made for local networks.
func localID(poolName string) string { return "firstboot-" + poolName }

// wantedNetwork returns the network that the adapter must serve. An existing
// annotation is used: it may be the ID of the global network of older hosts.
func (s localPool) wantedNetwork(p *cluster.IPPool) adapter.Network {
	return adapter.Network{ID: poolAnnotation(p), CIDR: s.Config.Pool.CIDR}
}

func (s localPool) Check(ctx context.Context) (engine.CheckResult, error) {
	f, err := s.dockerActive(ctx)
	if err != nil || !f.OK() {
		return f, err
	}
	err = s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := s.readObjects(ctx, c)
		if err != nil {
			return err
		}
		f.Differences = append(s.missing(seen), s.drift(seen)...)
		if seen.pool != nil {
			if have, err := adapter.Load(s.Host); err != nil {
				f.Add(engine.Difference{Object: adapter.Path, Actual: err.Error(), Expected: "the ID of the network"})
			} else if have != s.wantedNetwork(seen.pool) {
				f.Add(engine.Difference{Object: adapter.Path, Actual: have.ID + " over " + have.CIDR.String(), Expected: poolAnnotation(seen.pool) + " over " + s.Config.Pool.CIDR.String() + ", as IPPool " + seen.pool.Name + " is bound"})
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	_, why, err := s.restartReason(ctx)
	if why != "" {
		f.Add(engine.Difference{Object: "Docker", Actual: why, Expected: "a local network"})
	}
	return f, err
}

// drift lists how existing objects differ from the configuration. The network of
// an earlier global mode is not drift: it goes when its cluster-store does.
func (s localPool) drift(seen clusterObjects) []engine.Difference {
	if seen.network != nil && seen.network.Scope != dockerd.ScopeLocal {
		seen.network = nil
	}
	list := s.objectDrift(seen)
	if p := seen.pool; isUnbound(p) {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}},"spec":{"vxlanMode":"Never"}}`, calico.NetworkIDAnnotation, localID(p.Name))
		list = append(list, engine.Difference{
			Name: "pool-drift", Object: "IPPool " + p.Name + " annotation", Actual: "none", Expected: "the ID of a network", Stops: true,
			Fix: "if hosts with a global network use the pool, run firstboot run --force on one of them; otherwise run: calicoctl patch ippool " + p.Name +
				" --config=" + calico.CtlConfigPath + " -p '" + patch + "'; then run firstboot run --force here",
		})
	}
	return list
}

// isUnbound reports whether a pool exists that is not bound to a network.
func isUnbound(p *cluster.IPPool) bool { return p != nil && poolAnnotation(p) == "" }

// restartReason returns why Docker must be restarted before it can have a local
// network. If it need not be, why is "", and the network is returned if it exists.
func (s localPool) restartReason(ctx context.Context) (network *dockerd.Network, why string, err error) {
	info, err := s.docker().Info(ctx)
	if err != nil {
		return nil, "", err
	}
	if dockerd.IsOwnStore(s.Config, info.ClusterStore) {
		return nil, "uses the cluster-store " + info.ClusterStore, nil
	}
	// Docker may use a store that it no longer shows, and its list may then lack networks.
	network, err = s.docker().Network(ctx, s.Config.Pool.NetworkName())
	switch {
	case err != nil || network == nil || network.Scope == dockerd.ScopeLocal:
		return network, "", err
	case info.ClusterStore != "": // a restart would not remove it
		return nil, "", fault.New(fault.Permanent, fault.Config, engine.WithHint(
			fmt.Errorf("cannot create a local network: Docker has the network %s in the cluster-store %s, which firstboot did not set", network.Name, info.ClusterStore),
			"remove the cluster-store from Docker's configuration or command line, or set docker.network: global"))
	}
	return nil, "has a network " + network.Name + " with the scope " + network.Scope, nil
}

// Apply creates missing objects of the cluster under its lock, and then this
// host's network without it.
func (s localPool) Apply(ctx context.Context, report engine.Progress) error {
	return s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := s.readObjects(ctx, c)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		if err := driftError(s.objectDrift(seen)); err != nil {
			return err
		}
		announced, err := s.isAnnounced(ctx, c, seen.pool)
		if err != nil {
			return err
		}
		// A host with a global network creates the pool first and then binds it, both
		// under the lock.
		if seen.profile == nil || seen.pool == nil || announced {
			if err := s.underLock(ctx, c, report, func(ctx context.Context) error { return s.createObjects(ctx, c, report) }); err != nil {
				return err
			}
			if seen, err = s.readObjects(ctx, c); err != nil || seen.pool == nil {
				return &engine.Retry{Err: fmt.Errorf("cannot read IPPool %s: %w", s.Config.Pool.Name, orMissing(err))}
			}
			if err := driftError(s.drift(seen)); err != nil {
				return err
			}
		}
		return s.applyHost(ctx, seen.pool, report)
	})
}

// createObjects creates the Profile, and then the pool with its annotation in one
// step: the pool is never patched.
func (s localPool) createObjects(ctx context.Context, c *cluster.Client, report engine.Progress) error {
	seen, err := s.readObjects(ctx, c)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if err := s.createMissing(ctx, c, seen, calico.BoundIPPool(s.Config.Pool, localID(s.Config.Pool.Name)), report); err != nil {
		return err
	}
	if seen.pool != nil && !isLocalID(poolAnnotation(seen.pool)) {
		return s.announced(ctx, c)
	}
	return nil
}

// isAnnounced reports whether the pool may have to be bound to a global network that
// does not exist yet: it has no annotation, or the plugin has bound it and Docker has
// not stored the network.
func (s localPool) isAnnounced(ctx context.Context, c *cluster.Client, p *cluster.IPPool) (bool, error) {
	if p == nil || isLocalID(poolAnnotation(p)) {
		return false, nil
	}
	if isUnbound(p) {
		return true, nil
	}
	owner, err := c.AnnouncedBy(ctx, s.Config.Pool.Name)
	if err != nil {
		return false, s.etcdWait(err)
	}
	return owner != "", nil
}

// announced returns a *engine.Wait if another host has announced the global network
// of the pool and not yet created it, because it lost power. This host's own announcement
// ends: its network is local now. The caller must hold the lock on the pool.
func (s localPool) announced(ctx context.Context, c *cluster.Client) error {
	owner, err := c.AnnouncedBy(ctx, s.Config.Pool.Name)
	if err != nil {
		return s.etcdWait(err)
	}
	switch owner {
	case "":
		return nil
	case s.nodeName():
		return retryIf(c.EndAnnouncement(ctx, s.Config.Pool.Name))
	}
	return &engine.Wait{For: "host " + owner + " to create the global network of IPPool " + s.Config.Pool.Name + " (if that host no longer exists: firstboot run --force on another host with a global network; if there is none, etcdctl del /firstboot/v1/networks/" + s.Config.Pool.Name + ")"}
}

// applyHost writes adapter.json and creates this host's Docker network.
func (s localPool) applyHost(ctx context.Context, p *cluster.IPPool, report engine.Progress) error {
	want := s.wantedNetwork(p)
	if have, err := adapter.Load(s.Host); err != nil || have != want {
		if err := want.Save(s.Host); err != nil {
			return err
		}
	}
	network, why, err := s.restartReason(ctx)
	if fault.IsPermanent(err) {
		return err
	}
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if why != "" {
		return s.restartDocker(ctx, report, "for its local network, because it "+why)
	}
	if network != nil {
		return nil
	}
	name := s.Config.Pool.NetworkName()
	report("creating Docker network "+name, 0, 0)
	_, err = s.docker().CreateNetwork(ctx, name, minions.NetworkDriver, minions.IPAMDriver, s.Config.Pool.CIDR.String())
	switch {
	case err == nil, strings.Contains(err.Error(), "already exists"):
		return nil
	case strings.Contains(err.Error(), "swarm manager"):
		// Docker keeps the scope of a plugin from its first call of the plugin until
		// dockerd restarts: it called the plugin before the adapter had its socket.
		return s.restartDocker(ctx, report, "for its local network, because it still has the plugin's scope as global")
	}
	return &engine.Retry{Err: fmt.Errorf("cannot create the Docker network %s: %w", name, err)}
}

// retryIf returns err as a *engine.Retry, or nil.
func retryIf(err error) error {
	if err == nil {
		return nil
	}
	return &engine.Retry{Err: err}
}

// orMissing returns err, or an error that the object does not exist.
func orMissing(err error) error {
	if err == nil {
		return fmt.Errorf("it does not exist")
	}
	return err
}

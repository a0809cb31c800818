package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/minions"
)

const (
	// poolLock is the lock of the one host that creates the cluster's objects.
	poolLock = "pool"
	// poolLockTTL bounds how long a host that loses power delays the others.
	// Creating all objects takes 12 s on an emulated machine (measured).
	poolLockTTL = 30 * time.Second
)

// pool creates the objects that a cluster has once: the allow-all Profile, the
// IPPool and, in global mode, its Docker network. It then also repairs what the
// plugin breaks in the IPPool. localPool is the stage of a host with a local
// network.
type pool struct{ *Env }

func (pool) Name() string    { return "pool" }
func (pool) After() []string { return []string{"docker", "calicoctl", "minions", "adapter"} }

// clusterObjects are the objects that exist in the cluster; nil if missing.
type clusterObjects struct {
	profile *cluster.Profile
	pool    *cluster.IPPool
	network *dockerd.Network
}

func (s pool) readObjects(ctx context.Context, c *cluster.Client) (clusterObjects, error) {
	var seen clusterObjects
	var err error
	if seen.profile, err = c.Profile(ctx, s.Config.Pool.Name); err != nil {
		return seen, err
	}
	if seen.pool, err = c.Pool(ctx, s.Config.Pool.Name); err != nil {
		return seen, err
	}
	if seen.pool == nil {
		// Without its pool, a global network was never made.
		seen.network, err = s.docker().ListedNetwork(ctx, s.Config.Pool.NetworkName())
		return seen, err
	}
	seen.network, err = s.poolNetwork(ctx)
	return seen, err
}

func (s pool) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	mode, err := s.network(ctx)
	if err != nil {
		return f, err
	}
	if mode.local() {
		return localPool{s}.Check(ctx)
	}
	docker, err := s.dockerActive(ctx)
	if err != nil || !docker.OK() {
		return docker, err
	}
	return f, s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := s.readObjects(ctx, c)
		if err != nil {
			return err
		}
		f.Differences = append(s.missing(seen), append(s.drift(seen), s.repairs(seen)...)...)
		left, err := s.leftAnnouncement(ctx, c, seen)
		f.Differences = append(f.Differences, left...)
		return err
	})
}

// missing lists the objects that must be created.
func (s pool) missing(seen clusterObjects) []engine.Difference {
	var list []engine.Difference
	absent := func(what string) {
		list = append(list, engine.Difference{Object: what, Actual: "missing", Expected: "created once for the cluster"})
	}
	if seen.profile == nil {
		absent("Profile " + s.Config.Pool.Name)
	}
	if seen.pool == nil {
		absent("IPPool " + s.Config.Pool.Name)
	}
	if seen.network == nil {
		absent("Docker network " + s.Config.Pool.NetworkName())
	}
	return list
}

// leftAnnouncement lists the announcement of a network that exists: its host lost power
// before it ended it. Hosts with a local network wait for its end.
func (s pool) leftAnnouncement(ctx context.Context, c *cluster.Client, seen clusterObjects) ([]engine.Difference, error) {
	if seen.network == nil {
		return nil, nil
	}
	owner, err := c.AnnouncedBy(ctx, s.Config.Pool.Name)
	if err != nil || owner == "" {
		return nil, err
	}
	return []engine.Difference{{Object: "announcement of Docker network " + s.Config.Pool.NetworkName(), Actual: "left by host " + owner, Expected: "removed, because the network exists"}}, nil
}

// Apply creates missing objects and repairs the pool, under the cluster's lock.
// It never overwrites an existing object that differs from the configuration:
// it returns an error.
func (s pool) Apply(ctx context.Context, report engine.Progress) error {
	if err := s.startDocker(ctx); err != nil {
		return err
	}
	mode, err := s.network(ctx)
	if err != nil {
		return err
	}
	if mode.local() {
		return localPool{s}.Apply(ctx, report)
	}
	return s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := s.readObjects(ctx, c)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		if err := driftError(s.drift(seen)); err != nil {
			return err
		}
		left, err := s.leftAnnouncement(ctx, c, seen)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		if len(s.missing(seen)) == 0 && len(s.repairs(seen)) == 0 && len(left) == 0 {
			return nil
		}
		return s.underLock(ctx, c, report, func(ctx context.Context) error {
			if err := s.create(ctx, c, report); err != nil {
				return err
			}
			return s.repair(ctx, c)
		})
	})
}

// underLock calls change while it holds the cluster's lock. change must read the
// objects again, because another host may have created them meanwhile.
func (s pool) underLock(ctx context.Context, c *cluster.Client, report engine.Progress, change func(context.Context) error) error {
	lock, err := c.Lock(ctx, poolLock, s.nodeName(), poolLockTTL, func(holder string) {
		report("waiting for host "+holder+" to create the pool", 0, 0)
	})
	if err != nil {
		return s.etcdWait(err)
	}
	defer lock.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		// Without the lease, another host may take the lock.
		select {
		case <-lock.Done():
			cancel(errLockLost)
		case <-ctx.Done():
		}
	}()
	err = change(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errLockLost) {
		return s.etcdWait(errLockLost)
	}
	return err
}

// errLockLost means that etcd did not renew the lease of the pool's lock.
var errLockLost = fault.New(fault.Transient, fault.Lock, errors.New("lost the lock on the pool: etcd did not renew its lease"))

// create creates the missing objects. The Profile comes first, because without
// one the plugin creates a Profile that drops traffic. The network comes last,
// because it needs its pool.
func (s pool) create(ctx context.Context, c *cluster.Client, report engine.Progress) error {
	seen, err := s.readObjects(ctx, c)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if seen.network == nil {
		if err := s.mayBind(ctx, c, seen.pool); err != nil {
			return err
		}
	}
	if err := s.createMissing(ctx, c, seen, calico.IPPool(s.Config.Pool), report); err != nil {
		return err
	}
	if err := s.createNetwork(ctx, seen, report); err != nil {
		return err
	}
	return retryIf(c.EndAnnouncement(ctx, s.Config.Pool.Name))
}

// createMissing creates the Profile and this IPPool, if they are missing, by one call
// of calicoctl, which takes seconds on a slow machine.
func (s pool) createMissing(ctx context.Context, c *cluster.Client, seen clusterObjects, wanted calico.Document, report engine.Progress) error {
	var list []calico.Document
	var names []string
	if seen.profile == nil {
		list, names = append(list, calico.Profile(s.Config.Pool)), append(names, "Profile "+s.Config.Pool.Name)
	}
	if seen.pool == nil {
		list, names = append(list, wanted), append(names, "IPPool "+s.Config.Pool.Name)
	}
	if len(list) == 0 {
		return nil
	}
	report("creating "+strings.Join(names, " and "), 0, 0)
	if err := calico.Create(ctx, s.Host, list...); err != nil {
		return s.calicoctlError(err)
	}
	if len(list) == 1 {
		return nil
	}
	// calicoctl may have omitted the IPPool, because somebody made the Profile meanwhile.
	p, err := c.Pool(ctx, s.Config.Pool.Name)
	if err != nil || p == nil {
		return &engine.Retry{Err: fmt.Errorf("cannot read IPPool %s, which calicoctl created: %w", s.Config.Pool.Name, orMissing(err))}
	}
	return nil
}

// createNetwork creates the Docker network unless it exists.
func (s pool) createNetwork(ctx context.Context, seen clusterObjects, report engine.Progress) error {
	if seen.network != nil {
		return nil
	}
	name := s.Config.Pool.NetworkName()
	report("creating Docker network "+name, 0, 0)
	_, err := s.docker().CreateNetwork(ctx, name, minions.NetworkDriver, minions.IPAMDriver, s.Config.Pool.CIDR.String())
	if err != nil && !strings.Contains(err.Error(), "already exists") {
		return &engine.Retry{Err: fmt.Errorf("cannot create the Docker network %s: %w", name, err)}
	}
	return nil
}

// mayBind returns an error if hosts with local networks use the pool: the plugin
// would bind it to the new network, and those hosts could no longer start
// containers. It also announces the network, so that a host that continues after a
// power cut is not refused.
func (s pool) mayBind(ctx context.Context, c *cluster.Client, p *cluster.IPPool) error {
	if id := poolAnnotation(p); id != "" {
		owner, err := c.AnnouncedBy(ctx, p.Name)
		if err != nil {
			return s.etcdWait(err)
		}
		if owner == "" || isLocalID(id) {
			d := localPoolFinding(p.Name, id)
			// Docker may not have read its store yet.
			return &engine.Retry{Err: engine.WithHint(fmt.Errorf("cannot create the Docker network %s: %s", s.Config.Pool.NetworkName(), d), "%s", d.Fix)}
		}
	}
	return retryIf(c.AnnounceNetwork(ctx, s.Config.Pool.Name, s.nodeName()))
}

// poolAnnotation returns the ID of the network that a pool is bound to, or "".
func poolAnnotation(p *cluster.IPPool) string {
	if p == nil {
		return ""
	}
	return p.Annotations[calico.NetworkIDAnnotation]
}

// localPoolFinding refuses a global network over a pool of local ones.
func localPoolFinding(pool, id string) engine.Difference {
	return engine.Difference{
		Name: "pool-is-local", Object: "IPPool " + pool, Actual: "bound to " + id + ", which is not an existing global network: hosts with local networks may use it",
		Expected: "a pool without a network, or the pool of a global one", Stops: true,
		Fix: "set docker.network: local, or another pool; if no host has a local network over it, run on a host whose Docker has the cluster-store: docker network create --driver calico --ipam-driver calico-ipam --subnet CIDR NAME",
	}
}

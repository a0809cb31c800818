package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

const (
	// networkDriver and ipamDriver are the names that the plugin registers.
	networkDriver, ipamDriver = "calico", "calico-ipam"
	// poolLock is held by the one host that makes the cluster's objects.
	poolLock = "pool"
	// poolLockTTL is how long a host that lost its power can hold the others
	// up. Creating everything was measured at 12 s on an emulated machine.
	poolLockTTL = 30 * time.Second
	// calicoctlTime bounds a call of calicoctl, which hangs when etcd is gone.
	calicoctlTime = 60 * time.Second
)

// pool makes what the cluster has once: the allow-all Profile, the IPPool and
// the Docker network over it; and repairs what the plugin breaks in the pool.
type pool struct{ *Env }

func (pool) Name() string    { return "pool" }
func (pool) After() []string { return []string{"node", "minions"} }

// sight is what there is of the cluster's objects.
type sight struct {
	profile *cluster.Profile
	pool    *cluster.IPPool
	network *host.DockerNetwork
}

func (s pool) look(ctx context.Context, c *cluster.Client) (sight, error) {
	var seen sight
	var err error
	if seen.profile, err = c.Profile(ctx, s.Config.Pool.Name); err != nil {
		return seen, err
	}
	if seen.pool, err = c.Pool(ctx, s.Config.Pool.Name); err != nil {
		return seen, err
	}
	seen.network, err = s.poolNetwork(ctx)
	return seen, err
}

func (s pool) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	docker, err := s.dockerActive(ctx)
	if err != nil || !docker.OK() {
		return docker, err
	}
	return f, s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := s.look(ctx, c)
		if err != nil {
			return err
		}
		f.Differences = append(s.missing(seen), append(s.drift(seen), s.repairs(seen)...)...)
		return nil
	})
}

// missing lists what has to be created.
func (s pool) missing(seen sight) []engine.Difference {
	var list []engine.Difference
	absent := func(what string) {
		list = append(list, engine.Difference{Object: what, Actual: "not there", Expected: "created once for the cluster"})
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

// Apply creates what is missing, under the cluster's lock, and repairs the
// pool. What is there and different is reported and never overwritten.
func (s pool) Apply(ctx context.Context, report engine.Progress) error {
	return s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := s.look(ctx, c)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		if err := driftError(s.drift(seen)); err != nil {
			return err
		}
		if len(s.missing(seen)) == 0 && len(s.repairs(seen)) == 0 {
			return nil
		}
		return s.locked(ctx, c, report)
	})
}

// locked holds the cluster's lock while it creates and repairs. The objects
// are looked at anew: another host may have made them meanwhile.
func (s pool) locked(ctx context.Context, c *cluster.Client, report engine.Progress) error {
	lock, err := c.Lock(ctx, poolLock, s.nodeName(), poolLockTTL, func(holder string) {
		report("waiting for host "+holder+" to make the pool", 0, 0)
	})
	if err != nil {
		return s.etcdWait(err)
	}
	defer lock.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// Without the lease another host may be at work.
		select {
		case <-lock.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := s.create(ctx, c, report); err != nil {
		return err
	}
	return s.repair(ctx, c)
}

// create makes what is missing, in this order: the plugin makes a Profile that
// drops traffic where there is none, and a network needs its pool.
func (s pool) create(ctx context.Context, c *cluster.Client, report engine.Progress) error {
	seen, err := s.look(ctx, c)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if seen.profile == nil {
		report("creating Profile "+s.Config.Pool.Name, 0, 0)
		if err := s.calicoctlCreate(ctx, s.profileResource()); err != nil {
			return err
		}
	}
	if seen.pool == nil {
		report("creating IPPool "+s.Config.Pool.Name, 0, 0)
		if err := s.calicoctlCreate(ctx, s.poolResource()); err != nil {
			return err
		}
	}
	if seen.network != nil {
		return nil
	}
	report("creating Docker network "+s.Config.Pool.NetworkName(), 0, 0)
	_, err = s.Host.Docker().CreateNetwork(ctx, s.Config.Pool.NetworkName(), networkDriver, ipamDriver, s.Config.Pool.CIDR.String())
	if err != nil && !strings.Contains(err.Error(), "already exists") {
		return &engine.Retry{Err: fmt.Errorf("cannot create the Docker network %s: %w", s.Config.Pool.NetworkName(), err)}
	}
	return nil
}

func (s pool) calicoctlCreate(ctx context.Context, resource any) error {
	data, err := json.Marshal(resource)
	if err != nil {
		return err
	}
	out, err := s.Host.Run(ctx, host.Command{
		Name: CalicoctlPath, Args: []string{"create", "--config=" + calicoctlConfigPath, "-f", "-"},
		Stdin: data, Timeout: calicoctlTime,
	})
	if err == nil || strings.Contains(string(out.Stdout)+string(out.Stderr), "already exists") {
		return nil // the next look compares what is there
	}
	return s.calicoctlError(err)
}

// calicoctlError tells a calicoctl that hangs because etcd is gone from one
// that refuses what it was given.
func (s pool) calicoctlError(err error) error {
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.TimedOut > 0 {
		return s.etcdWait(err)
	}
	return &engine.Retry{Err: err}
}

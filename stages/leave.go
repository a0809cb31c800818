package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// Leave is how a host stops being a member, in order. Cluster-wide objects
// stay: they are the other hosts'. So do the files that firstboot wrote and
// that harm nobody. Strand lets containers on the network lose it.
func Leave(e *Env, strand bool) []engine.Stage {
	return []engine.Stage{
		containersGone{e, strand},                     // refuse while containers need the network
		unitsGone{e, "autostart", firstbootUnits()},   // else the next boot would join again
		unitsGone{e, "calico-node", nodeUnits()},      // no more routes from here
		nodeGone{e},                                   // its addresses go back to the pool
		unitsGone{e, "eru-minions", pluginUnits()},    // Docker must not wait for it at its start
		unitsGone{e, "leftovers", identityLeftover()}, // else the host would keep its former name
	}
}

// parting are units that end, and the files that go with them.
type parting struct {
	after string
	units []string
	files []string
}

func firstbootUnits() parting {
	return parting{after: "containers", units: []string{units.Service, units.Target}}
}

func nodeUnits() parting {
	return parting{after: "autostart", units: []string{units.CalicoNode}, files: []string{units.CalicoNodePath}}
}

func pluginUnits() parting {
	return parting{after: "node-object", units: []string{units.Minions}, files: []string{units.MinionsDropIn, units.DockerDropIn}}
}

func identityLeftover() parting {
	return parting{after: "eru-minions", files: []string{nodenamePath}}
}

// containersGone refuses to take the network from under containers.
type containersGone struct {
	*Env
	strand bool
}

func (containersGone) Name() string    { return "containers" }
func (containersGone) After() []string { return nil }

func (s containersGone) Check(ctx context.Context) (engine.CheckResult, error) {
	f, err := s.dockerActive(ctx)
	if err != nil || !f.OK() {
		return engine.CheckResult{}, err // where Docker does not run, no container does
	}
	names, err := s.workloads(ctx)
	if err != nil {
		return f, err
	}
	for _, name := range names {
		if s.strand {
			f.Warn("container %s loses its network", name)
			continue
		}
		f.Add(engine.Difference{
			Name: "container-on-network", Object: "container " + name, Actual: "on the network " + s.Config.Pool.NetworkName(), Expected: "none there",
			Fix:   "docker rm -f it, or move its work to another host; firstboot leave --force takes its network away",
			Stops: true,
		})
	}
	return f, nil
}

func (s containersGone) Apply(ctx context.Context, _ engine.Progress) error {
	f, err := s.Check(ctx)
	if err != nil {
		return err
	}
	return &engine.Refusal{Findings: f.Differences}
}

// workloads lists the running containers on the pool's network, but for ours.
func (e *Env) workloads(ctx context.Context) ([]string, error) {
	list, err := e.Host.Docker().RunningContainers(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range list {
		_, there := c.NetworkSettings.Networks[e.Config.Pool.NetworkName()]
		if there && c.Labels[probeLabel] == "" {
			names = append(names, c.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// unitsGone stops and disables units and removes their files.
type unitsGone struct {
	*Env
	name string
	parting
}

func (s unitsGone) Name() string    { return s.name }
func (s unitsGone) After() []string { return []string{s.after} }

func (s unitsGone) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	for _, name := range s.units {
		unit, err := s.Host.Systemd().Unit(ctx, name)
		if err != nil {
			return f, err
		}
		if unit.FileState == "enabled" {
			f.Add(engine.Difference{Object: name, Actual: "enabled", Expected: "disabled"})
		}
		if s.mustStop(name) && unit.Active != "inactive" && unit.Active != "failed" {
			f.Add(engine.Difference{Object: name, Actual: unit.Active, Expected: "stopped"})
		}
	}
	for _, path := range s.files {
		if s.Host.Exists(path) {
			f.Add(engine.Difference{Object: path, Actual: "there", Expected: "removed"})
		}
	}
	return f, nil
}

// mustStop: firstboot's own units only say that a run is over.
func (s unitsGone) mustStop(name string) bool { return name != units.Service && name != units.Target }

// stopTime bounds the end of a unit: TimeoutStopSec of calico-node, and some.
const stopTime = 45 * time.Second

func (s unitsGone) Apply(ctx context.Context, report engine.Progress) error {
	systemd := s.Host.Systemd()
	for _, name := range s.units {
		unit, err := systemd.Unit(ctx, name)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		if unit.FileState == "enabled" {
			if err := systemd.Disable(ctx, name); err != nil {
				return &engine.Retry{Err: err}
			}
		}
		if !s.mustStop(name) || unit.Active == "inactive" || unit.Active == "failed" {
			continue
		}
		report("stopping "+name, 0, 0)
		if err := s.stop(ctx, name); err != nil {
			return &engine.Retry{Err: err}
		}
	}
	for _, path := range s.files {
		if !s.Host.Exists(path) {
			continue
		}
		if err := s.Host.Remove(path); err != nil {
			return err
		}
	}
	if len(s.units) == 0 {
		return nil
	}
	if err := systemd.DaemonReload(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	return nil
}

func (s unitsGone) stop(ctx context.Context, name string) error {
	if err := s.Host.Systemd().Stop(ctx, name); err != nil {
		return err
	}
	return s.poll(ctx, stopTime, func() error {
		unit, err := s.Host.Systemd().Unit(ctx, name)
		if err == nil && unit.Active != "inactive" && unit.Active != "failed" {
			err = fmt.Errorf("%s is %s", name, unit.Active)
		}
		return err
	})
}

// nodeGone removes the host's Node from the cluster; calicoctl gives its
// addresses back with it.
type nodeGone struct{ *Env }

func (nodeGone) Name() string    { return "node-object" }
func (nodeGone) After() []string { return []string{"calico-node"} }

func (s nodeGone) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	return f, s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := c.Node(ctx, strings.ToLower(s.nodeName()))
		if err != nil || seen == nil {
			return err
		}
		f.Add(engine.Difference{Object: "node " + seen.Name, Actual: "in the cluster, at " + seen.Address.Addr().String(), Expected: "removed"})
		return nil
	})
}

// Apply removes the Node, unless it is another machine's by its address.
func (s nodeGone) Apply(ctx context.Context, report engine.Progress) error {
	name := strings.ToLower(s.nodeName())
	err := s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := c.Node(ctx, name)
		if err != nil || seen == nil {
			return err
		}
		ours, err := s.address(ctx)
		if err == nil && seen.Address.IsValid() && seen.Address.Addr() != ours {
			return engine.WithHint(fmt.Errorf("node %s is at %s, this host at %s: it is another machine's and stays", name, seen.Address.Addr(), ours),
				"calicoctl delete node %s, if you know better", name)
		}
		return err
	})
	if err != nil {
		return err
	}
	report("deleting node "+name, 0, 0)
	out, err := s.Host.Run(ctx, host.Command{
		Name: CalicoctlPath, Args: []string{"delete", "node", name, "--config=" + calicoctlConfigPath}, Timeout: calicoctlTime,
	})
	var failed *host.CommandError
	switch {
	case err == nil, strings.Contains(string(out.Stdout)+string(out.Stderr), "does not exist"):
		return nil
	case errors.As(err, &failed) && failed.TimedOut > 0:
		return s.etcdWait(err)
	}
	return &engine.Retry{Err: err}
}

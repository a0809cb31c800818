package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// Leave lists, in order, the stages that remove a host from its cluster.
// Cluster-wide objects stay, because the other hosts need them. Harmless files
// that firstboot wrote stay too. With force, running containers lose the pool's
// network; without it, they prevent leaving.
func Leave(e *Env, force bool) []engine.Stage {
	return []engine.Stage{
		noContainers{e, force},                        // refuse while containers use the network
		removeUnits{e, "autostart", firstbootUnits()}, // so that the next boot does not join again
		localNetwork{e},                               // while the adapter still answers
		removeUnits{e, "calico-node", nodeUnits()},    // withdraw this host's routes
		removeNode{e},                                 // return its addresses to the pool
		removeUnits{e, "eru-minions", pluginUnits()},  // so that Docker does not wait for it when it starts
		removeUnits{e, "adapter", adapterUnits()},     // the adapter and the tunnel need the plugin and etcd
		removeUnits{e, "leftovers", identityFiles()},  // so that the host does not keep its former node name
	}
}

// unitSet lists units to stop and disable, and files to remove.
type unitSet struct {
	after string
	units []string
	files []string
}

func firstbootUnits() unitSet {
	return unitSet{after: "containers", units: []string{units.Service, units.Target}}
}

func nodeUnits() unitSet {
	return unitSet{after: "network", units: []string{units.CalicoNode}, files: []string{units.CalicoNodePath, units.CalicoNodeEnv}}
}

func pluginUnits() unitSet {
	return unitSet{after: "node-object", units: []string{units.Minions}, files: []string{units.MinionsDropIn, units.DockerDropIn}}
}

func identityFiles() unitSet {
	return unitSet{after: "adapter", files: []string{calico.NodenamePath}}
}

func adapterUnits() unitSet {
	return unitSet{
		after: "eru-minions", units: []string{units.AdapterService, units.AdapterSocket, units.EtcdTunnel},
		files: []string{adapter.Path},
	}
}

// noContainers refuses to continue while containers use the pool's network.
type noContainers struct {
	*Env
	force bool
}

func (noContainers) Name() string    { return "containers" }
func (noContainers) After() []string { return nil }

func (s noContainers) Check(ctx context.Context) (engine.CheckResult, error) {
	f, err := s.dockerActive(ctx)
	if err != nil || !f.OK() {
		return engine.CheckResult{}, err // without Docker, no container runs
	}
	names, err := s.containersOnNetwork(ctx)
	if err != nil {
		return f, err
	}
	for _, name := range names {
		if s.force {
			f.Warn("container %s will lose its network", name)
			continue
		}
		f.Add(engine.Difference{
			Name: "container-on-network", Object: "container " + name, Actual: "on the network " + s.Config.Pool.NetworkName(), Expected: "no container on it",
			Fix:   "docker rm -f " + name + ", or firstboot leave --force, which disconnects it",
			Stops: true,
		})
	}
	return f, nil
}

func (s noContainers) Apply(ctx context.Context, _ engine.Progress) error {
	f, err := s.Check(ctx)
	if err != nil {
		return err
	}
	return &engine.Refusal{Findings: f.Differences}
}

// containersOnNetwork lists the running containers on the pool's network,
// except the probe container.
func (e *Env) containersOnNetwork(ctx context.Context) ([]string, error) {
	list, err := e.docker().RunningContainers(ctx)
	return e.onNetwork(list), err
}

// onNetwork returns the names of those containers that are on the pool's network,
// except the probe container, sorted.
func (e *Env) onNetwork(list []dockerd.Container) []string {
	var names []string
	for _, c := range list {
		_, connected := c.NetworkSettings.Networks[e.Config.Pool.NetworkName()]
		if connected && c.Labels[probeLabel] == "" {
			names = append(names, c.Name())
		}
	}
	slices.Sort(names)
	return names
}

// removeUnits stops and disables units and removes files.
type removeUnits struct {
	*Env
	name string
	unitSet
}

func (s removeUnits) Name() string    { return s.name }
func (s removeUnits) After() []string { return []string{s.after} }

func (s removeUnits) Check(ctx context.Context) (engine.CheckResult, error) {
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
			f.Add(engine.Difference{Object: path, Actual: "present", Expected: "removed"})
		}
	}
	return f, nil
}

// mustStop reports whether a unit must be stopped. firstboot's own units need
// not: they only record that a run has ended.
func (s removeUnits) mustStop(name string) bool { return name != units.Service && name != units.Target }

// stopTimeout bounds the stop of a unit. It is longer than the TimeoutStopSec
// of calico-node.service, 30 s.
const stopTimeout = 45 * time.Second

func (s removeUnits) Apply(ctx context.Context, report engine.Progress) error {
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

func (s removeUnits) stop(ctx context.Context, name string) error {
	if err := s.Host.Systemd().Stop(ctx, name); err != nil {
		return err
	}
	return s.poll(ctx, stopTimeout, func(ctx context.Context) error {
		unit, err := s.Host.Systemd().Unit(ctx, name)
		if err == nil && unit.Active != "inactive" && unit.Active != "failed" {
			err = fmt.Errorf("%s is %s", name, unit.Active)
		}
		return err
	})
}

// removeNode deletes the host's Node from the cluster. calicoctl also releases
// the addresses of the Node.
type removeNode struct{ *Env }

func (removeNode) Name() string    { return "node-object" }
func (removeNode) After() []string { return []string{"calico-node"} }

func (s removeNode) Check(ctx context.Context) (engine.CheckResult, error) {
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

// Apply deletes the Node, unless its address shows that it belongs to another
// machine.
func (s removeNode) Apply(ctx context.Context, report engine.Progress) error {
	name := strings.ToLower(s.nodeName())
	err := s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		seen, err := c.Node(ctx, name)
		if err != nil || seen == nil {
			return err
		}
		ours, err := s.address(ctx)
		if err == nil && seen.Address.IsValid() && seen.Address.Addr() != ours {
			return engine.WithHint(fmt.Errorf("cannot delete node %s: it has the address %s and belongs to another machine; this host has %s", name, seen.Address.Addr(), ours),
				"if the node is this host's, run calicoctl delete node %s", name)
		}
		return err
	})
	if err != nil {
		return err
	}
	report("deleting node "+name, 0, 0)
	if err := calico.DeleteNode(ctx, s.Host, name); err != nil {
		return s.calicoctlError(err)
	}
	return nil
}

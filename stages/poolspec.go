package stages

import (
	"context"
	"fmt"
	"slices"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/minions"
)

// drift is objectDrift of a host with a global network. Nor does such a host take
// the pool from hosts with local networks.
func (s pool) drift(seen clusterObjects) []engine.Difference {
	list := s.objectDrift(seen)
	if n := seen.network; n != nil && n.Scope == dockerd.ScopeLocal {
		d := ownNetworkFinding(n.Name)
		d.Name = "pool-drift"
		list = append(list, d)
	}
	if id := poolAnnotation(seen.pool); isLocalID(id) {
		list = append(list, localPoolFinding(seen.pool.Name, id))
	}
	return list
}

// ownNetworkFinding refuses to use this host's own network as the global one: the
// pool would be bound to an ID that no other host has.
func ownNetworkFinding(name string) engine.Difference {
	return engine.Difference{
		Object: "Docker network " + name, Actual: "this host's own local network", Expected: "no local network of this name, because the global network has the same name", Stops: true,
		Fix: "remove its containers, run docker network rm " + name + " and then firstboot run --force; or set docker.network: local",
	}
}

// objectDrift lists how existing objects differ from the configuration. Somebody may
// have decided so: firstboot reports it and never overwrites it.
func (s pool) objectDrift(seen clusterObjects) []engine.Difference {
	var list []engine.Difference
	differ := func(what, seen, want, fix string) {
		list = append(list, engine.Difference{Name: "pool-drift", Object: what, Actual: seen, Expected: want, Fix: fix, Stops: true})
	}
	if p := seen.profile; p != nil && !p.AllowsAll {
		differ("Profile "+p.Name, "drops traffic between containers", "allow all",
			"calicoctl get profile "+p.Name+" -o yaml; if the plugin created it, delete it and run firstboot run --force")
	}
	if p := seen.pool; p != nil {
		s.comparePool(*p, differ)
	}
	if n := seen.network; n != nil {
		s.compareNetwork(*n, differ)
	}
	return list
}

func (s pool) comparePool(p cluster.IPPool, differ func(what, seen, want, fix string)) {
	want := s.Config.Pool
	// calicoctl's patch of a spec deletes the annotation (measured with 3.23).
	// Without it, new containers cannot start on any host.
	fix := "correct the pool with calicoctl patch, then run firstboot run --force on one host with a global network, which binds the pool to its network again; " +
		"or change the configuration to match the cluster"
	if id := poolAnnotation(&p); isLocalID(id) {
		fix = "correct the pool with one calicoctl patch that also sets its annotation " + calico.NetworkIDAnnotation + ": " + id +
			", which a patch of the spec alone deletes; or change the configuration to match the cluster"
	}
	compare := func(field, seen, wanted string) {
		if seen != wanted {
			differ("IPPool "+p.Name+" "+field, seen, wanted, fix)
		}
	}
	compare("cidr", p.CIDR, want.CIDR.String())
	if p.BlockSize != 0 { // 0: stripped by the plugin; it cannot change after creation
		compare("blockSize", fmt.Sprint(p.BlockSize), fmt.Sprint(want.BlockSize))
	}
	compare("natOutgoing", fmt.Sprint(p.NATOutgoing), fmt.Sprint(want.NATOutgoing))
	if p.IPIPMode != "" {
		compare("ipipMode", p.IPIPMode, want.IPIP)
	}
	if p.VXLANMode != "" {
		compare("vxlanMode", p.VXLANMode, calico.VXLANMode)
	}
	if p.Disabled {
		differ("IPPool "+p.Name, "disabled", "enabled", fix)
	}
}

func (s pool) compareNetwork(n dockerd.Network, differ func(what, seen, want, fix string)) {
	what := "Docker network " + n.Name
	fix := "run docker network rm " + n.Name + " if no container uses it, or choose another pool.network"
	if n.Driver != minions.NetworkDriver {
		differ(what, "driver "+n.Driver, "driver "+minions.NetworkDriver, fix)
	}
	if n.IPAM.Driver != minions.IPAMDriver {
		differ(what, "ipam driver "+n.IPAM.Driver, "ipam driver "+minions.IPAMDriver, fix)
	}
	if want := s.Config.Pool.CIDR.String(); !slices.Contains(n.Subnets(), want) {
		differ(what, fmt.Sprintf("subnets %v", n.Subnets()), want, fix)
	}
}

// driftError returns a permanent error that describes the drift, or nil without
// drift. A retry would not help: a person must decide.
func driftError(drift []engine.Difference) error {
	if len(drift) == 0 {
		return nil
	}
	first := drift[0]
	err := fmt.Errorf("the cluster's objects differ from the configuration and are not overwritten: %s", first)
	for _, d := range drift[1:] {
		err = fmt.Errorf("%w; %s", err, d)
	}
	return engine.WithHint(err, "%s", first.Fix)
}

// repairs lists what one patch must repair in the pool: the annotation, which
// another network overwrote or an apply deleted, and the newer fields that the
// plugin strips. Without vxlanMode, a restarted Felix assumes that VXLAN is
// enabled and never becomes ready.
func (s pool) repairs(seen clusterObjects) []engine.Difference {
	if seen.pool == nil || seen.network == nil || seen.network.Scope == dockerd.ScopeLocal {
		return nil
	}
	var list []engine.Difference
	what := "IPPool " + seen.pool.Name
	if bound := poolAnnotation(seen.pool); bound != seen.network.ID && !isLocalID(bound) {
		list = append(list, engine.Difference{Name: "pool-annotation", Object: what + " annotation", Actual: "bound to network " + orNone(bound), Expected: seen.network.ID})
	}
	if seen.pool.VXLANMode == "" {
		list = append(list, engine.Difference{Name: "pool-stripped", Object: what + " vxlanMode", Actual: "stripped by the plugin", Expected: calico.VXLANMode})
	}
	return list
}

// repair sets the annotation and the stripped fields.
func (s pool) repair(ctx context.Context, c *cluster.Client) error {
	seen, err := s.readObjects(ctx, c)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if err := driftError(s.drift(seen)); err != nil {
		return err
	}
	if len(s.repairs(seen)) == 0 {
		return nil
	}
	if err := calico.RepairPool(ctx, s.Host, s.Config.Pool.Name, seen.network.ID); err != nil {
		return s.calicoctlError(err)
	}
	return nil
}

package stages

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/minions"
)

// overlap is a network that overlaps the pool.
type overlap struct{ text, fix string }

// cidrOverlap compares the pool with the host's addresses and routes and with
// Docker's networks. Calico itself does not check the hosts' networks.
func (s preflight) cidrOverlap(_ context.Context, d dockerState) ([]finding, error) {
	addresses, err := s.Host.Network().Addresses()
	if err != nil {
		return nil, err
	}
	routes, err := s.Host.Network().Routes()
	if err != nil {
		return nil, err
	}
	cidr := s.Config.Pool.CIDR
	found := append(s.otherNetworks(d), s.addressPools()...)
	overlaps := slices.Concat(addressOverlaps(cidr, addresses), routeOverlaps(cidr, routes, addresses), s.dockerOverlaps(d))
	if len(overlaps) == 0 {
		return found, nil
	}
	var texts []string
	var fix string
	for _, o := range overlaps {
		texts = append(texts, o.text)
		fix += o.fix
	}
	return append(newFinding("cidr-overlap", "pool.cidr "+cidr.String(), "overlaps "+strings.Join(texts, ", "),
		"a range that nothing else uses", fix+"choose another pool.cidr, for all hosts of the cluster"), found...), nil
}

// addressOverlaps lists the networks of the host's addresses that overlap the
// pool.
func addressOverlaps(cidr netip.Prefix, addresses []host.Address) []overlap {
	var found []overlap
	for _, a := range addresses {
		if a.Prefix.Overlaps(cidr) && !calico.IsInterface(a.Interface, a.Kind) {
			found = append(found, overlap{text: a.Prefix.Masked().String() + " on " + a.Interface})
		}
	}
	return found
}

// routeOverlaps lists the routes that overlap the pool, of any type and in any
// table, except those of Calico, those of an address, and default routes.
func routeOverlaps(cidr netip.Prefix, routes []host.Route, addresses []host.Address) []overlap {
	var found []overlap
	for _, r := range routes {
		// Two routes with a /1 replace the default route of many VPN clients.
		if r.Destination.Bits() <= 1 || r.Type == host.RouteThrow || !r.Destination.Overlaps(cidr) || calico.IsRoute(r, cidr) || isAddressRoute(r, addresses) {
			continue
		}
		text := r.Destination.Masked().String() + " " + describeRoute(r)
		if !slices.Contains(found, overlap{text: text}) {
			found = append(found, overlap{text: text})
		}
	}
	return found
}

// isAddressRoute reports whether the kernel added a route for an address that
// addressOverlaps compares.
func isAddressRoute(r host.Route, addresses []host.Address) bool {
	if r.Protocol != host.ProtocolKernel {
		return false
	}
	return slices.ContainsFunc(addresses, func(a host.Address) bool {
		return a.Prefix.Bits() <= r.Destination.Bits() && a.Prefix.Contains(r.Destination.Addr())
	})
}

// describeRoute completes "overlaps 10.213.0.0/16 …".
func describeRoute(r host.Route) string {
	var hops []string
	for _, h := range r.Hops {
		if h.Gateway.IsValid() {
			hops = append(hops, h.Gateway.String())
		} else {
			hops = append(hops, h.Interface)
		}
	}
	switch {
	case r.Type != host.RouteUnicast:
		return "routed as " + string(r.Type)
	case len(hops) == 0:
		return "routed"
	}
	return "routed by " + strings.Join(hops, " and ")
}

// dockerOverlaps lists the networks of Docker that overlap the pool, without
// those of the plugin: Calico refuses pools that overlap.
func (s preflight) dockerOverlaps(d dockerState) []overlap {
	var found []overlap
	add := func(subnet netip.Prefix, text, fix string) {
		if subnet.IsValid() && subnet.Overlaps(s.Config.Pool.CIDR) {
			found = append(found, overlap{subnet.Masked().String() + " " + text, fix})
		}
	}
	if bridge, source := dockerd.ReadSettings(s.Host).DefaultBridge(); !d.active {
		add(bridge, "of Docker's network bridge ("+source+")", "")
	}
	for _, n := range d.networks {
		if n.Driver == minions.NetworkDriver {
			continue
		}
		fix := ""
		if n.Name != "bridge" {
			fix = "docker network rm " + n.Name + " if no container uses it; or "
		}
		for _, text := range n.Subnets() {
			subnet, _ := netip.ParsePrefix(text)
			add(subnet, "of Docker's network "+n.Name, fix)
		}
	}
	return found
}

// addressPools warns if Docker may choose a part of the pool for a new network.
func (s preflight) addressPools() []finding {
	for _, base := range dockerd.ReadSettings(s.Host).AddressPools() {
		if base.Overlaps(s.Config.Pool.CIDR) {
			return newWarning("cidr-overlap", dockerd.ConfigPath, "default-address-pools has "+base.Masked().String(), "no range that overlaps pool.cidr "+s.Config.Pool.CIDR.String(),
				"Docker may choose a part of the pool for a new network: change the range, or pool.cidr for all hosts")
		}
	}
	return nil
}

// otherNetworks warns of other networks of the plugin over the pool. The plugin
// binds the pool to the network that was created last, and the pool stage
// corrects that.
func (s preflight) otherNetworks(d dockerState) []finding {
	var list []finding
	for _, n := range d.networks {
		if n.Driver != minions.NetworkDriver || n.Name == s.Config.Pool.NetworkName() || !slices.Contains(n.Subnets(), s.Config.Pool.CIDR.String()) {
			continue
		}
		list = append(list, newWarning("cidr-overlap", "Docker network "+n.Name, "also uses the pool", "one network for each pool",
			"docker network rm "+n.Name+": its containers and those of "+s.Config.Pool.NetworkName()+" cannot both start")...)
	}
	return list
}

package stages

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// bgpAddress looks whether this host has the address that the configuration
// chooses.
func (s preflight) bgpAddress(ctx context.Context, _ dockerView) ([]concern, error) {
	_, err := s.address(ctx)
	if err == nil || isWait(err) {
		return nil, err
	}
	return concernOf("address", "host.address", err.Error(), "an address of this machine", engine.Hint(err)), nil
}

// defaultRoute: without one the containers have no connectivity, because the
// kernel does not answer for their gateway 169.254.1.1 (proxy ARP).
func (s preflight) defaultRoute(context.Context, dockerView) ([]concern, error) {
	routes, err := s.Host.Network().Routes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Destination.Bits() == 0 {
			return nil, nil
		}
	}
	return concernOf("default-route", "routes", "no default route", "one: containers reach nothing without it", "ip route add default via GATEWAY, for good"), nil
}

const hostsPath = "/etc/hosts"

// localhost: Felix listens for its health check on this name, inside a
// container that has the host's file; without it calico-node is never ready.
// Its IPv6 address does not do: the sysctl stage switches IPv6 off.
func (s preflight) localhost(context.Context, dockerView) ([]concern, error) {
	data, err := s.Host.ReadFile(hostsPath)
	if err != nil && !host.NotExist(err) {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		address, err := netip.ParseAddr(fields[0])
		isName := func(name string) bool { return strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") }
		if err == nil && address.Is4() && address.IsLoopback() && slices.ContainsFunc(fields[1:], isName) {
			return nil, nil
		}
	}
	seen := "no IPv4 address for localhost"
	if err != nil {
		seen = "no such file"
	}
	return concernOf("localhost", hostsPath, seen, "127.0.0.1 localhost: calico-node's health check listens on that name",
		"echo '127.0.0.1 localhost' >> "+hostsPath), nil
}

// ipv6InUse: the sysctl stage switches IPv6 off, because Docker cannot start
// a container on the plugin's network with it.
func (s preflight) ipv6InUse(context.Context, dockerView) ([]concern, error) {
	if s.Config.Sysctl["net.ipv6.conf.all.disable_ipv6"] != "1" {
		return nil, nil
	}
	all, err := s.Host.Network().Addresses()
	if err != nil {
		return nil, err
	}
	var used []string
	for _, a := range all {
		ip := a.Prefix.Addr()
		if ip.Is6() && ip.IsGlobalUnicast() && !isContainerInterface(a.Interface) {
			used = append(used, fmt.Sprintf("%s (%s)", ip, a.Interface))
		}
	}
	if len(used) == 0 {
		return nil, nil
	}
	return concernOf("ipv6-in-use", "IPv6", strings.Join(used, ", "), "no IPv6 address: net.ipv6.conf.all.disable_ipv6 takes them away",
		"reach this host by IPv4 and take the addresses off; or, if nothing reaches it by IPv6, preflight.ignore: [ipv6-in-use]"), nil
}

// bgpPort finds another BGP daemon. Our own node's is no conflict.
func (s preflight) bgpPort(ctx context.Context, view dockerView) ([]concern, error) {
	address, err := s.address(ctx)
	if err != nil {
		return nil, nil // the probe of the address told it
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	at := netip.AddrPortFrom(address, bgpTCP)
	if view.silent || !s.Host.Network().Listening(ctx, at) {
		return nil, nil
	}
	if view.active {
		ours, err := s.Host.Docker().Container(ctx, nodeContainer)
		if err == nil && ours.State.Running {
			return nil, nil
		}
	}
	return concernOf("bgp-port", at.String(), "another program listens", "free for calico-node's BIRD",
		"ss -ltnp 'sport = :179' names it; stop and disable it"), nil
}

// bgpTCP is BGP's TCP port (RFC 4271).
const bgpTCP = 179

// cidrOverlap compares the pool with everything that this host reaches by
// other ways. Calico itself does not look at the hosts' networks.
func (s preflight) cidrOverlap(_ context.Context, view dockerView) ([]concern, error) {
	cidr := s.Config.Pool.CIDR
	var seen []string
	add := func(p netip.Prefix, what string) {
		if p.IsValid() && p.Bits() > 0 && p.Overlaps(cidr) {
			seen = append(seen, p.Masked().String()+" "+what)
		}
	}
	addresses, err := s.Host.Network().Addresses()
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if !isCalicoInterface(a.Interface) {
			add(a.Prefix, "on "+a.Interface)
		}
	}
	routes, err := s.Host.Network().Routes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Protocol != host.ProtocolBIRD && r.Protocol != protocolFelix && !isCalicoInterface(r.Interface) && r.Gateway.IsValid() {
			add(r.Destination, "routed by "+r.Gateway.String())
		}
	}
	fix := "choose another pool.cidr, for all hosts of the cluster"
	for name, subnet := range s.dockerSubnets(view) {
		before := len(seen)
		add(subnet, "of Docker's network "+name)
		if len(seen) > before && view.active && name != "bridge" {
			fix = "docker network rm " + name + ", where no container uses it; or " + fix
		}
	}
	found := s.rivals(view)
	if len(seen) == 0 {
		return found, nil
	}
	return append(concernOf("cidr-overlap", "pool.cidr "+cidr.String(), "overlaps "+strings.Join(seen, ", "), "a range that nothing else uses", fix), found...), nil
}

// rivals are other networks of the plugin over the pool. They are in nobody's
// way but each other's: the plugin binds the pool to the one made last, which
// the pool stage sets right.
func (s preflight) rivals(view dockerView) []concern {
	var list []concern
	for _, n := range view.network {
		if n.Driver != networkDriver || n.Name == s.Config.Pool.NetworkName() || !slices.Contains(n.Subnets(), s.Config.Pool.CIDR.String()) {
			continue
		}
		list = append(list, warningOf("cidr-overlap", "Docker network "+n.Name, "over the pool as well", "one network a pool",
			"docker network rm "+n.Name+": its containers and those of "+s.Config.Pool.NetworkName()+" cannot both start")...)
	}
	return list
}

// protocolFelix is the rtm_protocol of Felix's routes (its DeviceRouteProtocol).
const protocolFelix = 80

// isCalicoInterface tells Calico's own interfaces, whose addresses and routes
// are the pool's on a host that has joined.
func isCalicoInterface(name string) bool {
	return strings.HasPrefix(name, "cali") || strings.HasPrefix(name, "tunl") || strings.HasPrefix(name, "vxlan.calico")
}

// dockerSubnets are the subnets of Docker's own networks.
// While Docker does not run, the one that its bridge will get.
func (s preflight) dockerSubnets(view dockerView) map[string]netip.Prefix {
	subnets := map[string]netip.Prefix{}
	if !view.active {
		subnets["bridge (its default)"] = netip.MustParsePrefix("172.17.0.0/16")
		return subnets
	}
	for _, n := range view.network {
		if n.Driver == networkDriver {
			continue // over a pool, and Calico lets no two pools overlap
		}
		for _, text := range n.Subnets() {
			if p, err := netip.ParsePrefix(text); err == nil {
				subnets[n.Name] = p
			}
		}
	}
	return subnets
}

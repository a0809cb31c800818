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

// bgpAddress checks that this host has the address that the configuration
// selects.
func (s preflight) bgpAddress(ctx context.Context, _ dockerState) ([]finding, error) {
	_, err := s.address(ctx)
	if err == nil || isWait(err) {
		return nil, err
	}
	return newFinding("address", "host.address", err.Error(), "an address of this machine", engine.Hint(err)), nil
}

// defaultRoute checks that there is a default route. Without it the containers
// have no connectivity, because the kernel does not answer ARP requests for
// their gateway 169.254.1.1 (proxy ARP).
func (s preflight) defaultRoute(context.Context, dockerState) ([]finding, error) {
	routes, err := s.Host.Network().Routes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Destination.Bits() == 0 {
			return nil, nil
		}
	}
	return newFinding("default-route", "routes", "no default route", "a default route, without which containers have no connectivity", "ip route add default via GATEWAY, and make it permanent"), nil
}

const hostsPath = "/etc/hosts"

// localhost checks that /etc/hosts has an IPv4 address for localhost. Felix
// listens on this name for its health check, in a container that uses the host's
// file; without it calico-node is never ready. An IPv6 address is not enough,
// because the sysctl stage disables IPv6.
func (s preflight) localhost(context.Context, dockerState) ([]finding, error) {
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
	actual := "no IPv4 address for localhost"
	if err != nil {
		actual = "no such file"
	}
	return newFinding("localhost", hostsPath, actual, "127.0.0.1 localhost, because calico-node's health check listens on that name",
		"echo '127.0.0.1 localhost' >> "+hostsPath), nil
}

// ipv6InUse finds global IPv6 addresses if the sysctl stage disables IPv6. It
// does so because Docker cannot start a container on the plugin's network
// while IPv6 is enabled.
func (s preflight) ipv6InUse(context.Context, dockerState) ([]finding, error) {
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
	return newFinding("ipv6-in-use", "IPv6", strings.Join(used, ", "), "no global IPv6 address, because net.ipv6.conf.all.disable_ipv6 removes them",
		"reach this host by IPv4 and remove the addresses; or, if nothing reaches it by IPv6, preflight.ignore: [ipv6-in-use]"), nil
}

// bgpPort finds a BGP daemon other than calico-node's.
func (s preflight) bgpPort(ctx context.Context, d dockerState) ([]finding, error) {
	address, err := s.address(ctx)
	if err != nil {
		return nil, nil // bgpAddress reports it
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	at := netip.AddrPortFrom(address, bgpTCP)
	if d.unresponsive || !s.Host.Network().Listening(ctx, at) {
		return nil, nil
	}
	if d.active {
		node, err := s.Host.Docker().Container(ctx, nodeContainer)
		if err == nil && node.State.Running {
			return nil, nil
		}
	}
	return newFinding("bgp-port", at.String(), "another program listens", "free for calico-node's BIRD",
		"stop and disable that program: ss -ltnp 'sport = :179' shows it"), nil
}

// bgpTCP is BGP's TCP port (RFC 4271).
const bgpTCP = 179

// cidrOverlap compares the pool with the host's addresses and routes and with
// Docker's networks. Calico itself does not check the hosts' networks.
func (s preflight) cidrOverlap(_ context.Context, d dockerState) ([]finding, error) {
	cidr := s.Config.Pool.CIDR
	var overlaps []string
	add := func(p netip.Prefix, source string) {
		if p.IsValid() && p.Bits() > 0 && p.Overlaps(cidr) {
			overlaps = append(overlaps, p.Masked().String()+" "+source)
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
	for name, subnet := range s.dockerSubnets(d) {
		before := len(overlaps)
		add(subnet, "of Docker's network "+name)
		if len(overlaps) > before && d.active && name != "bridge" {
			fix = "docker network rm " + name + " if no container uses it; or " + fix
		}
	}
	found := s.otherNetworks(d)
	if len(overlaps) == 0 {
		return found, nil
	}
	return append(newFinding("cidr-overlap", "pool.cidr "+cidr.String(), "overlaps "+strings.Join(overlaps, ", "), "a range that nothing else uses", fix), found...), nil
}

// otherNetworks warns of other networks of the plugin over the pool. The plugin
// binds the pool to the network that was created last, and the pool stage
// corrects that.
func (s preflight) otherNetworks(d dockerState) []finding {
	var list []finding
	for _, n := range d.networks {
		if n.Driver != networkDriver || n.Name == s.Config.Pool.NetworkName() || !slices.Contains(n.Subnets(), s.Config.Pool.CIDR.String()) {
			continue
		}
		list = append(list, newWarning("cidr-overlap", "Docker network "+n.Name, "also uses the pool", "one network for each pool",
			"docker network rm "+n.Name+": its containers and those of "+s.Config.Pool.NetworkName()+" cannot both start")...)
	}
	return list
}

// protocolFelix is the rtm_protocol of Felix's routes (DeviceRouteProtocol).
const protocolFelix = 80

// isCalicoInterface reports whether Calico made the interface. On a host that
// has joined, its addresses and routes belong to the pool.
func isCalicoInterface(name string) bool {
	return strings.HasPrefix(name, "cali") || strings.HasPrefix(name, "tunl") || strings.HasPrefix(name, "vxlan.calico")
}

// dockerSubnets returns the subnets of Docker's networks by their names, without
// the networks of the plugin. If Docker does not run, it returns the default
// subnet of Docker's bridge.
func (s preflight) dockerSubnets(d dockerState) map[string]netip.Prefix {
	subnets := map[string]netip.Prefix{}
	if !d.active {
		subnets["bridge (its default)"] = netip.MustParsePrefix("172.17.0.0/16")
		return subnets
	}
	for _, n := range d.networks {
		if n.Driver == networkDriver {
			continue // over a pool, and Calico refuses pools that overlap
		}
		for _, text := range n.Subnets() {
			if p, err := netip.ParsePrefix(text); err == nil {
				subnets[n.Name] = p
			}
		}
	}
	return subnets
}

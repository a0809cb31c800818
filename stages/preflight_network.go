package stages

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	kernel "github.com/projecteru2/firstboot/internal/sysctl"
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

// containerGateway is the gateway of Calico's containers.
var containerGateway = netip.MustParseAddr("169.254.1.1")

// defaultRoute looks up the route to the containers' gateway, which a default
// route provides. Without it the containers have no connectivity, because the
// kernel does not answer ARP requests for the gateway (proxy ARP).
func (s preflight) defaultRoute(context.Context, dockerState) ([]finding, error) {
	route, err := s.Host.Network().RouteTo(containerGateway)
	if err != nil || route.Type.Delivers() {
		return nil, err
	}
	actual := "no default route"
	if route.Type != "" {
		actual = "the default route is " + string(route.Type)
	}
	return newFinding("default-route", "routes", actual, "a default route, without which containers have no connectivity", "ip route add default via GATEWAY, and make it permanent"), nil
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
// does so because Docker cannot start a container on the plugin's global network
// while IPv6 is enabled. The adapter of a local network has no such limit.
func (s preflight) ipv6InUse(_ context.Context, d dockerState) ([]finding, error) {
	const key = disableAllIPv6
	if !d.mode.global() || !kernel.Same(key, s.settings(d.mode)[key], "1") {
		return nil, nil
	}
	for _, endpoint := range s.Config.Etcd.Endpoints {
		if u, err := url.Parse(endpoint); err == nil && net.ParseIP(u.Hostname()) != nil && net.ParseIP(u.Hostname()).To4() == nil {
			return newFinding("ipv6-in-use", "etcd.endpoints", endpoint, "an IPv4 address, because "+key+" disables IPv6", "use an IPv4 address, or set docker.network: local"), nil
		}
	}
	all, err := s.Host.Network().Addresses()
	if err != nil {
		return nil, err
	}
	isContainers := containerAddresses(d.networks)
	var used []string
	for _, a := range all {
		ip := a.Prefix.Addr()
		if ip.Is6() && ip.IsGlobalUnicast() && !isContainers(a) {
			used = append(used, fmt.Sprintf("%s (%s)", ip, a.Interface))
		}
	}
	if len(used) == 0 {
		return nil, nil
	}
	return newFinding("ipv6-in-use", "IPv6", strings.Join(used, ", "), "no global IPv6 address, because net.ipv6.conf.all.disable_ipv6 removes them",
		"set docker.network: local, which needs no change of IPv6; or, if nothing reaches this host by IPv6, set preflight.ignore: [ipv6-in-use]"), nil
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
		node, err := s.docker().Container(ctx, calico.NodeContainer)
		if err == nil && node.State.Running {
			return nil, nil
		}
	}
	return newFinding("bgp-port", at.String(), "another program listens", "free for calico-node's BIRD",
		"stop and disable that program: ss -ltnp 'sport = :179' shows it"), nil
}

// bgpTCP is BGP's TCP port (RFC 4271).
const bgpTCP = 179

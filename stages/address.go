package stages

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// address returns the IPv4 address of this host as a BGP peer: the one that
// host.address selects or, if it is empty, the source address of the route to
// etcd.
func (e *Env) address(ctx context.Context) (netip.Addr, error) {
	want := e.Config.Host.Address
	if want == "" {
		return e.addressToEtcd(ctx)
	}
	all, err := e.Host.Network().Addresses()
	if err != nil {
		return netip.Addr{}, err
	}
	fitting := e.preferred(ctx, slices.DeleteFunc(slices.Clone(all), func(a host.Address) bool { return !selects(want, a) }))
	switch ips := distinct(fitting); len(ips) {
	case 0:
		return netip.Addr{}, engine.WithHint(fmt.Errorf("no address of this machine matches host.address %s; it has %s", want, listAddresses(all)),
			"set host.address to one of these or to interface=NAME, or leave it empty to use the address that reaches etcd")
	case 1:
		return ips[0], nil
	}
	return netip.Addr{}, engine.WithHint(fmt.Errorf("several addresses of this machine match host.address %s: %s", want, listAddresses(fitting)),
		"set host.address to one of these")
}

// selects reports whether host.address, which is interface=NAME, a CIDR or an
// address, selects an address.
func selects(want string, a host.Address) bool {
	ip := a.Prefix.Addr()
	if !ip.Is4() {
		return false
	}
	if name, ok := strings.CutPrefix(want, "interface="); ok {
		return a.Interface == name && ip.IsGlobalUnicast()
	}
	if network, err := netip.ParsePrefix(want); err == nil {
		return network.Contains(ip)
	}
	return ip.String() == want
}

// preferred returns those addresses that are most likely the host's own. An
// address on the loopback interface or with a /32 is often a virtual address,
// which moves between hosts.
func (e *Env) preferred(ctx context.Context, addresses []host.Address) []host.Address {
	if len(addresses) < 2 {
		return addresses
	}
	isContainers := e.containerInterfaces(ctx)
	rank := func(a host.Address) int {
		switch {
		case isContainers(a):
			return 3
		case a.Interface == "lo":
			return 2
		case a.Secondary || a.Prefix.IsSingleIP():
			return 1
		}
		return 0
	}
	best := rank(slices.MinFunc(addresses, func(a, b host.Address) int { return rank(a) - rank(b) }))
	return slices.DeleteFunc(slices.Clone(addresses), func(a host.Address) bool { return rank(a) != best })
}

// distinct returns the IP addresses without duplicates: an address can be on
// several interfaces.
func distinct(addresses []host.Address) []netip.Addr {
	var ips []netip.Addr
	for _, a := range addresses {
		if ip := a.Prefix.Addr(); !slices.Contains(ips, ip) {
			ips = append(ips, ip)
		}
	}
	return ips
}

// listAddresses formats the IPv4 addresses for an error message.
func listAddresses(all []host.Address) string {
	var list []string
	for _, a := range all {
		if a.Prefix.Addr().Is4() && !a.Prefix.Addr().IsLoopback() {
			list = append(list, fmt.Sprintf("%s (%s)", a.Prefix.Addr(), a.Interface))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// addressToEtcd returns the source address of the route to the first endpoint
// that has one.
func (e *Env) addressToEtcd(ctx context.Context) (netip.Addr, error) {
	var last error
	for _, endpoint := range e.Config.Etcd.Endpoints {
		to, err := e.resolve(ctx, endpoint)
		if err != nil {
			last = err
			continue
		}
		source, err := e.Host.Network().SourceAddress(to)
		if err == nil && source.IsLoopback() {
			return e.onlyAddress(ctx)
		}
		if err == nil {
			return source, nil
		}
		last = err
	}
	return netip.Addr{}, &engine.Wait{For: "a route to etcd at " + strings.Join(e.Config.Etcd.Endpoints, ", "), Err: last}
}

// onlyAddress returns the machine's only address, without those of containers.
// It is for a host on which etcd itself runs: there the route to etcd leads
// over loopback.
func (e *Env) onlyAddress(ctx context.Context) (netip.Addr, error) {
	all, err := e.Host.Network().Addresses()
	if err != nil {
		return netip.Addr{}, err
	}
	isContainers := e.containerInterfaces(ctx)
	var own []host.Address
	for _, a := range all {
		if ip := a.Prefix.Addr(); ip.Is4() && ip.IsGlobalUnicast() && !isContainers(a) {
			own = append(own, a)
		}
	}
	if ips := distinct(e.preferred(ctx, own)); len(ips) == 1 {
		return ips[0], nil
	}
	return netip.Addr{}, engine.WithHint(
		fmt.Errorf("cannot choose the node's address: etcd is on this machine, which has %s", listAddresses(all)),
		"set host.address")
}

// containerInterfaces returns a function that reports whether an address belongs
// to containers and not to the host itself. It queries Docker's networks if
// Docker runs, because a network can name its bridge freely.
func (e *Env) containerInterfaces(ctx context.Context) func(host.Address) bool {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var networks []dockerd.Network
	if unit, err := e.Host.Systemd().Unit(ctx, units.Docker); err == nil && unit.Active == "active" {
		networks, _ = e.docker().Networks(ctx) // without a response, the kind and the name decide
	}
	return containerAddresses(networks)
}

// containerAddresses is containerInterfaces with the list of Docker's networks.
func containerAddresses(networks []dockerd.Network) func(host.Address) bool {
	return func(a host.Address) bool {
		if calico.IsInterface(a.Interface, a.Kind) {
			return true
		}
		return a.Kind == "bridge" && !a.Uplink && dockerd.IsBridge(a.Interface, networks)
	}
}

package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpAttempts limits how often a list is read again because it changed while
// the kernel listed it. Such a list can be incomplete.
const dumpAttempts = 5

// dump calls list until the kernel returns a consistent list.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var all []T
	var err error
	for range dumpAttempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, nil // a host whose interfaces change all the time has no better list
}

// links lists the network interfaces.
func links() ([]netlink.Link, error) {
	all, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list network interfaces: %w", err)
	}
	return all, nil
}

func (kernelNetwork) Addresses() ([]Address, error) {
	interfaces, err := links()
	if err != nil {
		return nil, err
	}
	uplinks := uplinkBridges(interfaces)
	var all []Address
	for _, link := range interfaces {
		name := link.Attrs().Name
		addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return nil, fmt.Errorf("cannot list addresses of %s: %w", name, err)
		}
		for _, a := range addrs {
			if p, ok := toPrefix(a.IPNet); ok {
				all = append(all, Address{
					Interface: name, Kind: link.Type(), Uplink: uplinks[link.Attrs().Index],
					Secondary: a.Flags&unix.IFA_F_SECONDARY != 0 && p.Addr().Is4(), Prefix: p,
				})
			}
		}
	}
	return all, nil
}

// uplinkBridges returns the indexes of the bridges that connect the host itself.
// The ports of a bridge for containers or virtual machines are veth pairs and
// taps.
func uplinkBridges(interfaces []netlink.Link) map[int]bool {
	uplinks := map[int]bool{}
	for _, link := range interfaces {
		if master := link.Attrs().MasterIndex; master != 0 && link.Type() != "veth" && link.Type() != "tuntap" {
			uplinks[master] = true
		}
	}
	return uplinks
}

func (kernelNetwork) Routes() ([]Route, error) {
	used, err := usedTables()
	if err != nil {
		return nil, err
	}
	interfaces, err := interfacesByIndex()
	if err != nil {
		return nil, err
	}
	found, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list routes: %w", err)
	}
	var routes []Route
	for _, r := range found {
		if used[r.Table] {
			routes = append(routes, toRoute(r, interfaces))
		}
	}
	return routes, nil
}

// usedTables returns the routing tables that a rule uses. The kernel never reads
// the others for a packet of this host; those of VRFs are separate networks.
func usedTables() (map[int]bool, error) {
	rules, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if errors.Is(err, unix.EOPNOTSUPP) { // a kernel without policy routing
		return map[int]bool{unix.RT_TABLE_LOCAL: true, unix.RT_TABLE_MAIN: true, unix.RT_TABLE_DEFAULT: true}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list routing rules: %w", err)
	}
	used := map[int]bool{}
	for _, r := range rules {
		used[r.Table] = true
	}
	return used, nil
}

func interfacesByIndex() (map[int]netlink.Link, error) {
	all, err := links()
	if err != nil {
		return nil, err
	}
	byIndex := map[int]netlink.Link{}
	for _, link := range all {
		byIndex[link.Attrs().Index] = link
	}
	return byIndex, nil
}

// toRoute converts a route of netlink.
func toRoute(r netlink.Route, interfaces map[int]netlink.Link) Route {
	route := Route{
		Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		Type:        routeType(r.Type), Table: r.Table, Protocol: int(r.Protocol),
	}
	if p, ok := toPrefix(r.Dst); ok {
		route.Destination = p
	}
	hop := func(index int, gateway net.IP) {
		var h Hop
		if link := interfaces[index]; link != nil {
			h.Interface, h.Kind = link.Attrs().Name, link.Type()
		}
		if gw, ok := netip.AddrFromSlice(gateway); ok {
			h.Gateway = gw.Unmap()
		}
		route.Hops = append(route.Hops, h)
	}
	for _, n := range r.MultiPath {
		hop(n.LinkIndex, n.Gw)
	}
	if len(r.MultiPath) == 0 && r.LinkIndex != 0 {
		hop(r.LinkIndex, r.Gw)
	}
	return route
}

// routeType returns the name of an rtm_type.
func routeType(t int) RouteType {
	names := map[int]RouteType{
		unix.RTN_UNICAST: RouteUnicast, unix.RTN_LOCAL: RouteLocal, unix.RTN_BROADCAST: RouteBroadcast,
		unix.RTN_BLACKHOLE: RouteBlackhole, unix.RTN_UNREACHABLE: RouteUnreachable, unix.RTN_PROHIBIT: RouteProhibit,
		unix.RTN_THROW: RouteThrow,
	}
	if name, ok := names[t]; ok {
		return name
	}
	return RouteType(fmt.Sprintf("type %d", t))
}

func (kernelNetwork) RouteTo(to netip.Addr) (Route, error) {
	routes, err := netlink.RouteGet(net.IP(to.AsSlice()))
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return Route{}, nil
	case errors.Is(err, unix.EHOSTUNREACH):
		return Route{Type: RouteUnreachable}, nil
	case errors.Is(err, unix.EACCES):
		return Route{Type: RouteProhibit}, nil
	case errors.Is(err, unix.EINVAL):
		return Route{Type: RouteBlackhole}, nil
	case err != nil:
		return Route{}, fmt.Errorf("cannot look up the route to %s: %w", to, err)
	case len(routes) == 0:
		return Route{}, nil
	}
	interfaces, err := interfacesByIndex()
	if err != nil {
		return Route{}, err
	}
	return toRoute(routes[0], interfaces), nil
}

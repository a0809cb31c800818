package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Address is an address of an interface, with its prefix length.
type Address struct {
	Interface string
	Prefix    netip.Prefix
}

// Route is one IPv4 route of the main table.
type Route struct {
	Destination netip.Prefix // 0.0.0.0/0 for the default route
	Gateway     netip.Addr   // invalid if the network is on the link
	Interface   string
	Protocol    int // rtm_protocol: 2 kernel, 3 boot, 4 static, 12 BIRD, 16 DHCP
}

// ProtocolBIRD is the rtm_protocol of routes that BIRD adds (rtnetlink.h).
const ProtocolBIRD = 12

// Network reads the machine's addresses and routes.
type Network interface {
	// Addresses lists all IPv4 and IPv6 addresses.
	Addresses() ([]Address, error)
	// Routes lists the IPv4 routes of the main table.
	Routes() ([]Route, error)
	// SourceAddress returns the local address that the kernel chooses for
	// packets to the address to.
	SourceAddress(to netip.Addr) (netip.Addr, error)
	// Listening reports whether addr accepts TCP connections.
	Listening(ctx context.Context, addr netip.AddrPort) bool
	// Resolve looks up the IPv4 addresses of a host name.
	Resolve(ctx context.Context, name string) ([]netip.Addr, error)
	// Ping sends an ICMP echo request to an IPv4 address and waits for its
	// reply.
	Ping(ctx context.Context, to netip.Addr) error
}

// kernelNetwork reads the network of the machine that this process runs on.
type kernelNetwork struct{}

func (kernelNetwork) Addresses() ([]Address, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list network interfaces: %w", err)
	}
	var all []Address
	for _, link := range links {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("cannot list addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, a := range addrs {
			if p, ok := toPrefix(a.IPNet); ok {
				all = append(all, Address{Interface: link.Attrs().Name, Prefix: p})
			}
		}
	}
	return all, nil
}

func (kernelNetwork) Routes() ([]Route, error) {
	names := map[int]string{}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list network interfaces: %w", err)
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	found, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("cannot list routes: %w", err)
	}
	routes := make([]Route, 0, len(found))
	for _, r := range found {
		route := Route{Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Interface: names[r.LinkIndex], Protocol: int(r.Protocol)}
		if p, ok := toPrefix(r.Dst); ok {
			route.Destination = p
		}
		if gw, ok := netip.AddrFromSlice(r.Gw); ok {
			route.Gateway = gw.Unmap()
		}
		routes = append(routes, route)
	}
	return routes, nil
}

func (kernelNetwork) SourceAddress(to netip.Addr) (netip.Addr, error) {
	routes, err := netlink.RouteGet(net.IP(to.AsSlice()))
	if err != nil || len(routes) == 0 {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", to, err)
	}
	source, ok := netip.AddrFromSlice(routes[0].Src)
	if !ok {
		return netip.Addr{}, fmt.Errorf("no local address for %s", to)
	}
	return source.Unmap(), nil
}

func (kernelNetwork) Listening(ctx context.Context, addr netip.AddrPort) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// toPrefix converts n. It returns false if n is nil or invalid.
func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), true
}

func (kernelNetwork) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
}

package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address is an address of an interface, with its prefix length.
type Address struct {
	Interface string
	Kind      string // the interface's kind: device, bridge, veth, ipip, vxlan, … (IFLA_INFO_KIND)
	Uplink    bool   // a bridge with a port that is not one end of a veth pair or a tap: it connects the host itself
	Secondary bool   // the kernel prefers another address of the same network as a source
	Prefix    netip.Prefix
}

// Route is one IPv4 route.
type Route struct {
	Destination netip.Prefix // 0.0.0.0/0 for the default route
	Type        RouteType
	Table       int
	Protocol    int // rtm_protocol: 2 kernel, 3 boot, 4 static, 12 BIRD, 16 DHCP
	Hops        []Hop
}

// Hop is a next hop of a route. A multipath route has several.
type Hop struct {
	Gateway   netip.Addr // invalid if the network is on the link
	Interface string
	Kind      string // the interface's kind, as in Address
}

// RouteType is what the kernel does with packets that match a route, as ip-route
// prints it. It is empty if no route matches.
type RouteType string

// The types of routes that firstboot distinguishes.
const (
	RouteUnicast     RouteType = "unicast"
	RouteLocal       RouteType = "local"
	RouteBroadcast   RouteType = "broadcast"
	RouteBlackhole   RouteType = "blackhole"
	RouteUnreachable RouteType = "unreachable"
	RouteProhibit    RouteType = "prohibit"
	RouteThrow       RouteType = "throw" // continue with the next rule
)

// Delivers reports whether packets that match the route are delivered and not
// dropped.
func (t RouteType) Delivers() bool { return t == RouteUnicast || t == RouteLocal }

// ProtocolKernel is the rtm_protocol of routes that the kernel adds for an
// address.
const ProtocolKernel = 2

// ProtocolBIRD is the rtm_protocol of routes that BIRD adds (rtnetlink.h).
const ProtocolBIRD = 12

// Network reads the machine's addresses and routes.
type Network interface {
	// Addresses lists all IPv4 and IPv6 addresses.
	Addresses() ([]Address, error)
	// Routes lists the IPv4 routes of all types in all tables that a rule uses.
	Routes() ([]Route, error)
	// RouteTo looks up the route of a packet from this host to an IPv4 address,
	// as the kernel does: with its rules and in all tables. If none matches, the
	// Type is empty.
	RouteTo(to netip.Addr) (Route, error)
	// SourceAddress returns the local address that the kernel chooses for
	// packets to the address to.
	SourceAddress(to netip.Addr) (netip.Addr, error)
	// Listening reports whether addr accepts TCP connections.
	Listening(ctx context.Context, addr netip.AddrPort) bool
	// DialLocal connects to a TCP port of the loopback address 127.0.0.1.
	DialLocal(ctx context.Context, port uint16) (net.Conn, error)
	// Resolve looks up the IPv4 addresses of a host name.
	Resolve(ctx context.Context, name string) ([]netip.Addr, error)
	// Ping sends an ICMP echo request to an IPv4 address and waits for its
	// reply.
	Ping(ctx context.Context, to netip.Addr) error
	// RemoveVeth removes a pair of virtual interfaces by the name of one of them.
	// It removes no other kind of interface; one that does not exist is no error.
	RemoveVeth(name string) error
}

// kernelNetwork reads the network of the machine that this process runs on.
type kernelNetwork struct{}

func (kernelNetwork) SourceAddress(to netip.Addr) (netip.Addr, error) {
	routes, err := netlink.RouteGet(net.IP(to.AsSlice()))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", to, err)
	}
	if len(routes) == 0 {
		return netip.Addr{}, fmt.Errorf("no route to %s", to)
	}
	source, ok := netip.AddrFromSlice(routes[0].Src)
	if !ok {
		return netip.Addr{}, fmt.Errorf("no local address for %s", to)
	}
	return source.Unmap(), nil
}

func (kernelNetwork) RemoveVeth(name string) error {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return nil
	case err != nil:
		return fmt.Errorf("cannot remove the interface %s: %w", name, err)
	case link.Type() != "veth":
		return fmt.Errorf("cannot remove the interface %s: it is not a veth but a %s", name, link.Type())
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("cannot remove the interface %s: %w", name, err)
	}
	return nil
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

func (kernelNetwork) DialLocal(ctx context.Context, port uint16) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
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

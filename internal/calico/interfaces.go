package calico

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// LinkPath is the file that LinkFile returns.
const LinkPath = "/etc/systemd/network/10-calico.link"

// LinkFile stops udevd (242 and later) from changing the MAC addresses of the
// containers' interfaces. The plugin records the first MAC address, and Felix
// makes a permanent neighbour entry of it. After a change that entry is wrong
// and the container cannot be reached.
func LinkFile() host.File {
	return host.File{Path: LinkPath, Mode: 0o644, Data: []byte(host.FileHeader + `[Match]
OriginalName=cali* temp*

[Link]
MACAddressPolicy=none
`)}
}

// IsInterface reports whether Calico made an interface of this name and kind. On a
// host that has joined, its addresses and routes belong to the pool.
func IsInterface(name, kind string) bool {
	switch kind {
	case "veth":
		return strings.HasPrefix(name, "cali")
	case "ipip":
		return name == "tunl0"
	case "vxlan":
		return name == "vxlan.calico"
	}
	return false
}

// protocolFelix is the rtm_protocol of Felix's routes (DeviceRouteProtocol).
const protocolFelix = 80

// IsRoute reports whether a route belongs to the pool: BIRD or Felix added it for
// a part of the pool, or it leads to an interface of Calico.
func IsRoute(r host.Route, pool netip.Prefix) bool {
	part := r.Destination.Bits() >= pool.Bits()
	if part && (r.Protocol == host.ProtocolBIRD || r.Protocol == protocolFelix) {
		return true
	}
	return len(r.Hops) > 0 && !slices.ContainsFunc(r.Hops, func(h host.Hop) bool { return !IsInterface(h.Interface, h.Kind) })
}

package stages_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/host"
)

// route adds a route to a machine's network.
func (m *machine) route(r host.Route, change func(*host.Route)) {
	if change != nil {
		change(&r)
	}
	m.net.routes = append(m.net.routes, r)
}

// routeCases are hosts with a route or a Docker network that overlaps the pool,
// or without a usable default route.
func routeCases() []refusedCase {
	return []refusedCase{
		{name: "default-route", problem: "unreachable default", words: []string{"the default route is unreachable"}, arrange: func(m *machine) {
			m.net.routes[0].Type, m.net.routes[0].Hops = host.RouteUnreachable, nil
		}},
		{name: "default-route", problem: "blackhole for link-local addresses", words: []string{"blackhole"}, arrange: func(m *machine) {
			m.route(newRoute("169.254.0.0/16", "", "", 4), func(r *host.Route) { r.Type, r.Hops = host.RouteBlackhole, nil })
		}},
		{name: "cidr-overlap", problem: "route through a WireGuard interface", words: []string{"10.0.0.0/8 routed by wg0"}, arrange: func(m *machine) {
			m.route(newRoute("10.0.0.0/8", "", "wg0", 3), nil)
		}},
		{name: "cidr-overlap", problem: "blackhole", words: []string{"10.213.0.0/16 routed as blackhole"}, arrange: func(m *machine) {
			m.route(newRoute("10.213.0.0/16", "", "", 4), func(r *host.Route) { r.Type, r.Hops = host.RouteBlackhole, nil })
		}},
		{name: "cidr-overlap", problem: "local route", words: []string{"10.213.5.0/24 routed as local"}, arrange: func(m *machine) {
			m.route(newRoute("10.213.5.0/24", "", "lo", 3), func(r *host.Route) { r.Type, r.Table = host.RouteLocal, 255 })
		}},
		{name: "cidr-overlap", problem: "route in another table", words: []string{"10.208.0.0/12 routed by 10.0.0.9"}, arrange: func(m *machine) {
			m.route(newRoute("10.208.0.0/12", "10.0.0.9", "eth0", 4), func(r *host.Route) { r.Table = 100 })
		}},
		{name: "cidr-overlap", problem: "multipath route", words: []string{"10.213.0.0/17 routed by 10.0.0.8 and 10.0.0.9"}, arrange: func(m *machine) {
			second := newRoute("0.0.0.0/0", "10.0.0.9", "eth0", 4).Hops
			m.route(newRoute("10.213.0.0/17", "10.0.0.8", "eth0", 4), func(r *host.Route) { r.Hops = append(r.Hops, second...) })
		}},
		{name: "cidr-overlap", problem: "another BIRD's route that covers the pool", words: []string{"10.0.0.0/8 routed by 10.0.0.7"}, arrange: func(m *machine) {
			m.route(newRoute("10.0.0.0/8", "10.0.0.7", "eth0", host.ProtocolBIRD), nil)
		}},
		{name: "cidr-overlap", problem: "the kernel's route to a peer", words: []string{"10.213.0.5/32 routed by ppp0"}, arrange: func(m *machine) {
			m.net.add("ppp0", "192.0.2.1/32")
			m.route(newRoute("10.213.0.5/32", "", "ppp0", host.ProtocolKernel), nil)
		}},
		{name: "cidr-overlap", problem: "an interface whose name begins with cali", words: []string{"10.213.9.0/24 on california"}, arrange: func(m *machine) {
			m.net.add("california", "10.213.9.1/24")
			m.net.addresses[len(m.net.addresses)-1].Kind = "device"
		}},
		{name: "cidr-overlap", problem: "first of several subnets of a Docker network", words: []string{"10.213.5.0/24 of Docker's network app"}, arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("app", "ipvlan", "10.213.5.0/24", "fd00:1::/64", "192.0.2.0/24"))
		}},
		{name: "cidr-overlap", problem: "several subnets of a Docker network", words: []string{"10.213.5.0/24 of Docker's network app, 10.213.6.0/24 of Docker's network app"}, arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("app", "ipvlan", "10.213.5.0/24", "10.213.6.0/24"))
		}},
		{name: "cidr-overlap", problem: "bip of a stopped Docker", words: []string{"10.213.1.0/24", "bip in /etc/docker/daemon.json"}, arrange: func(m *machine) {
			m.stopDocker()
			m.put("/etc/docker/daemon.json", `{"bip": "10.213.1.1/24"}`)
		}},
		{name: "cidr-overlap", problem: "default-address-pools", warning: true, words: []string{"default-address-pools has 10.0.0.0/8", "pool.cidr 10.213.0.0/16"}, arrange: func(m *machine) {
			m.put("/etc/docker/daemon.json", `{"default-address-pools": [{"base": "192.168.0.0/16", "size": 24}, {"base": "10.0.0.0/8", "size": 24}]}`)
		}},
	}
}

// acceptedRoutes are hosts whose routes and networks leave the pool free.
func acceptedRoutes() map[string]func(*machine) {
	return map[string]func(*machine){
		"two halves for a default route": func(m *machine) {
			m.net.routes = m.net.routes[1:]
			m.route(newRoute("0.0.0.0/1", "", "wg0", 3), nil)
			m.route(newRoute("128.0.0.0/1", "", "wg0", 3), nil)
		},
		"a default route of several hops, and one of the last resort": func(m *machine) {
			m.net.routes[0].Hops = append(m.net.routes[0].Hops, m.net.routes[0].Hops...)
			m.route(newRoute("0.0.0.0/0", "", "", 4), func(r *host.Route) { r.Type, r.Hops = host.RouteUnreachable, nil })
		},
		"a throw route over the pool": func(m *machine) {
			m.route(newRoute("10.0.0.0/8", "", "", 4), func(r *host.Route) { r.Type, r.Hops, r.Table = host.RouteThrow, nil, 100 })
		},
		"bip of a stopped Docker instead of its default": func(m *machine) {
			m.stopDocker()
			m.net.addresses = m.net.addresses[:4]
			m.put("/etc/docker/daemon.json", `{"bip": "192.0.2.1/24"}`)
			m.override("pool: {cidr: 172.17.128.0/17}")
		},
		"a stopped Docker without a bridge": func(m *machine) {
			m.stopDocker()
			m.net.addresses = m.net.addresses[:4]
			m.put("/etc/docker/daemon.json", `{"bridge": "none"}`)
			m.override("pool: {cidr: 172.17.128.0/17}")
		},
	}
}

// addressCases are hosts whose own address is missing or ambiguous, or that use
// IPv6.
func addressCases() []refusedCase {
	return []refusedCase{
		{name: "address", problem: "two addresses in the CIDR", words: []string{"several addresses", "10.0.0.2 (eth0), 10.0.1.1 (eth1)"}, arrange: func(m *machine) {
			m.net.add("eth1", "10.0.1.1/24")
			m.override("host: {address: 10.0.0.0/16}")
		}},
		{name: "address", problem: "two addresses on the interface", words: []string{"several addresses", "10.0.0.2 (eth0), 10.0.1.1 (eth0)"}, arrange: func(m *machine) {
			m.net.add("eth0", "10.0.1.1/24")
			m.override("host: {address: interface=eth0}")
		}},
		{name: "address", problem: "two virtual addresses and no other", words: []string{"10.9.9.50 (lo), 10.9.9.51 (lo)"}, arrange: func(m *machine) {
			m.net.add("lo", "10.9.9.50/32")
			m.net.add("lo", "10.9.9.51/32")
			m.override("host: {address: 10.9.9.0/24}")
		}},
		{name: "address", problem: "only a loopback address on the interface", words: []string{"interface=lo"}, arrange: func(m *machine) {
			m.override("host: {address: interface=lo}")
		}},
		{name: "ipv6-in-use", problem: "on a bridge of the host", words: []string{"2001:db8::5 (br-lan)"}, arrange: func(m *machine) { m.net.add("br-lan", "2001:db8::5/64") }},
		{name: "ipv6-in-use", problem: "on a VXLAN interface of the host", words: []string{"(vxlan7)"}, arrange: func(m *machine) { m.net.add("vxlan7", "2001:db8::5/64") }},
		{name: "ipv6-in-use", problem: "on one end of a veth pair", words: []string{"(veth-host)"}, arrange: func(m *machine) { m.net.add("veth-host", "2001:db8::5/64") }},
		{name: "ipv6-in-use", problem: "on Docker's bridge, which is the host's uplink", words: []string{"(br0)"}, arrange: func(m *machine) {
			m.net.add("br0", "2001:db8::5/64")
			m.net.addresses[len(m.net.addresses)-1].Uplink = true
			network := dockerNetwork("bridge", "bridge", "192.0.2.0/24")
			network.Options = map[string]string{"com.docker.network.bridge.name": "br0"}
			m.docker.own = append(m.docker.own, network)
		}},
	}
}

// acceptedAddresses are hosts whose own address is clear.
func acceptedAddresses() map[string]func(*machine) {
	return map[string]func(*machine){
		"host.address with a CIDR that has a virtual address": func(m *machine) {
			m.net.addresses = append([]host.Address{newAddress("lo", "10.0.0.50/32")}, m.net.addresses...)
			m.net.add("eth0", "10.0.0.51/32")
			m.override("host: {address: 10.0.0.0/24}")
		},
		"host.address with an interface that has a secondary address": func(m *machine) {
			m.net.add("eth0", "10.0.0.51/24")
			m.net.addresses[len(m.net.addresses)-1].Secondary = true
			m.override("host: {address: interface=eth0}")
		},
		"host.address with a CIDR that contains Docker's bridge": func(m *machine) {
			m.net.add("eth1", "172.20.0.1/16")
			m.override("host: {address: 172.16.0.0/12}")
		},
		"host.address is a virtual address": func(m *machine) {
			m.net.add("lo", "10.9.9.50/32")
			m.override("host: {address: 10.9.9.50}")
		},
		"host.address with a CIDR, on two interfaces": func(m *machine) {
			m.net.add("eth1", "10.0.0.2/24")
			m.override("host: {address: 10.0.0.0/24}")
		},
		"IPv6 only on bridges of Docker": func(m *machine) {
			m.net.add("br-0123456789ab", "2001:db8:2::1/64")
			m.net.add("bridge-of-app", "2001:db8:3::1/64")
			network := dockerNetwork("app", "bridge", "192.0.2.0/24")
			network.Options = map[string]string{"com.docker.network.bridge.name": "bridge-of-app"}
			m.docker.own = append(m.docker.own, network)
		},
		"etcd on this host, which has a virtual address": func(m *machine) {
			m.net.source = netip.MustParseAddr("127.0.0.1")
			m.net.add("lo", "10.9.9.50/32")
			m.net.add("br-0123456789ab", "10.9.8.1/24")
		},
	}
}

// TestAddressIsTheHostsOwn reads the chosen address from Docker's configuration.
func TestAddressIsTheHostsOwn(t *testing.T) {
	t.Parallel()
	others := map[string]string{
		"host.address with a CIDR that contains Docker's bridge": "172.20.0.1",
		"host.address is a virtual address":                      "10.9.9.50",
	}
	for name, arrange := range acceptedAddresses() {
		m := newMachine(t)
		arrange(m)
		m.mustApply("config")
		want := others[name]
		if want == "" {
			want = "10.0.0.2"
		}
		if got := m.get("/etc/docker/daemon.json"); !strings.Contains(got, `"cluster-advertise": "`+want+":2376\"") {
			t.Errorf("%s: want %s in %s", name, want, got)
		}
	}
}

package host

import (
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs test on a thread with its own network namespace, after the
// given arguments of ip(8).
func inNamespace(t *testing.T, test func(t *testing.T), setUp ...string) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is not installed (Debian: iproute2)")
	}
	refused := make(chan error, 1)
	go func() {
		defer close(refused)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, and its namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			refused <- err
			return
		}
		for _, arguments := range append([]string{"link set lo up"}, setUp...) {
			if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v: %s", arguments, err, out)
				return
			}
		}
		test(t)
	}()
	if err := <-refused; err != nil {
		t.Skipf("cannot create a network namespace: %v", err)
	}
}

// uplink is a host's first interface, with a default route.
var uplink = []string{
	"link add eth0 type veth peer name eth0p", "link set eth0 up", "link set eth0p up",
	"addr add 10.0.0.2/24 dev eth0", "route add default via 10.0.0.1",
}

func TestAddressesNameTheKindOfTheInterface(t *testing.T) {
	t.Parallel()
	inNamespace(t, func(t *testing.T) {
		all, err := kernelNetwork{}.Addresses()
		if err != nil {
			t.Error(err)
			return
		}
		found := map[string]Address{}
		for _, a := range all {
			found[a.Prefix.Addr().String()] = a
		}
		for text, want := range map[string]Address{
			"10.0.0.2":  {Interface: "eth0", Kind: "veth"},
			"10.0.0.9":  {Interface: "eth0", Kind: "veth", Secondary: true},
			"10.1.0.1":  {Interface: "br-lan", Kind: "bridge", Uplink: true},
			"10.2.0.1":  {Interface: "br-0123456789ab", Kind: "bridge"},
			"127.0.0.1": {Interface: "lo", Kind: "device"},
		} {
			got := found[text]
			want.Prefix = got.Prefix
			if got != want {
				t.Errorf("%s: got %+v, want %+v", text, got, want)
			}
		}
	}, append(uplink, "addr add 10.0.0.9/24 dev eth0",
		"link add br-lan type bridge", "addr add 10.1.0.1/24 dev br-lan",
		"link add vxlan5 type vxlan id 5 dstport 4789 dev eth0", "link set vxlan5 master br-lan",
		"link add br-0123456789ab type bridge", "addr add 10.2.0.1/24 dev br-0123456789ab",
		"link add veth0 type veth peer name veth1", "link set veth1 master br-0123456789ab")...)
}

func TestRoutesOfAllTablesAndTypes(t *testing.T) {
	t.Parallel()
	inNamespace(t, func(t *testing.T) {
		routes, err := kernelNetwork{}.Routes()
		if err != nil {
			t.Error(err)
			return
		}
		find := func(prefix string) *Route {
			i := slices.IndexFunc(routes, func(r Route) bool { return r.Destination == netip.MustParsePrefix(prefix) })
			if i < 0 {
				return nil
			}
			return &routes[i]
		}
		for prefix, want := range map[string]RouteType{
			"10.10.0.0/16": RouteUnicast, "10.11.0.0/16": RouteBlackhole, "10.12.0.0/16": RouteUnreachable,
			"10.13.0.0/16": RouteProhibit, "10.14.0.0/16": RouteUnicast, "10.15.0.0/16": RouteUnicast, "10.16.0.0/16": RouteLocal,
		} {
			if r := find(prefix); r == nil || r.Type != want {
				t.Errorf("%s: got %+v, want type %s", prefix, r, want)
			}
		}
		if r := find("10.14.0.0/16"); r != nil && r.Table != 100 {
			t.Errorf("got table %d, want 100", r.Table)
		}
		if r := find("10.15.0.0/16"); r != nil && (len(r.Hops) != 2 || r.Hops[1].Gateway.String() != "10.0.0.4" || r.Hops[1].Interface != "eth0") {
			t.Errorf("got the hops %+v, want two", r.Hops)
		}
		if r := find("10.17.0.0/16"); r != nil {
			t.Errorf("got a route of a table that no rule uses: %+v", r)
		}
	}, append(uplink, "route add 10.10.0.0/16 dev eth0", "route add blackhole 10.11.0.0/16", "route add unreachable 10.12.0.0/16",
		"route add prohibit 10.13.0.0/16", "rule add fwmark 7 table 100", "route add 10.14.0.0/16 dev eth0 table 100",
		"route add 10.15.0.0/16 nexthop via 10.0.0.3 nexthop via 10.0.0.4", "route add local 10.16.0.0/16 dev lo",
		"route add 10.17.0.0/16 dev eth0 table 200")...)
}

// TestRouteTo looks up an address that only a default route reaches.
func TestRouteTo(t *testing.T) {
	t.Parallel()
	withoutDefault := uplink[:len(uplink)-1]
	for name, c := range map[string]struct {
		setUp []string
		want  RouteType
	}{
		"default route":               {uplink, RouteUnicast},
		"no default route":            {withoutDefault, ""},
		"unreachable default":         {slices.Concat(withoutDefault, []string{"route add unreachable default"}), RouteUnreachable},
		"blackhole default":           {slices.Concat(withoutDefault, []string{"route add blackhole default"}), RouteBlackhole},
		"prohibit default":            {slices.Concat(withoutDefault, []string{"route add prohibit default"}), RouteProhibit},
		"unreachable of least weight": {slices.Concat(uplink, []string{"route add unreachable default metric 4278198272"}), RouteUnicast},
		"default in another table":    {slices.Concat(withoutDefault, []string{"rule add pref 100 table 100", "route add default via 10.0.0.1 table 100"}), RouteUnicast},
		"two halves":                  {slices.Concat(withoutDefault, []string{"route add 0.0.0.0/1 via 10.0.0.1", "route add 128.0.0.0/1 via 10.0.0.1"}), RouteUnicast},
		"multipath":                   {slices.Concat(withoutDefault, []string{"route add default nexthop via 10.0.0.1 nexthop via 10.0.0.3"}), RouteUnicast},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inNamespace(t, func(t *testing.T) {
				r, err := kernelNetwork{}.RouteTo(netip.MustParseAddr("203.0.113.1"))
				if err != nil || r.Type != c.want {
					t.Errorf("got %+v and %v, want type %q", r, err, c.want)
				}
			}, c.setUp...)
		})
	}
}

// TestRemoveVethRemovesNothingElse, such as a bridge with a container's name.
func TestRemoveVethRemovesNothingElse(t *testing.T) {
	t.Parallel()
	inNamespace(t, func(t *testing.T) {
		var network kernelNetwork
		for _, name := range []string{"cali0", "cali0"} { // the second time it no longer exists
			if err := network.RemoveVeth(name); err != nil {
				t.Error(err)
			}
		}
		if err := network.RemoveVeth("cali1"); err == nil || !strings.Contains(err.Error(), "not a veth but a bridge") {
			t.Errorf("got %v", err)
		}
		out, err := exec.CommandContext(t.Context(), "ip", "-o", "link").Output()
		if err != nil || strings.Contains(string(out), "temp0") || !strings.Contains(string(out), "cali1") {
			t.Errorf("left are %s (%v)", out, err)
		}
	}, "link add cali0 type veth peer name temp0", "link add cali1 type bridge")
}

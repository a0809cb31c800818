package stages

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// Env is what every stage works with. It is made once and not changed.
type Env struct {
	Host   *host.Host
	Config *config.Config
	Store  *artifact.Store
	Notes  Notes
	// Self is the path of the running binary; the probe container is made
	// from it.
	Self string
	// Built is when the binary was built: no clock can be right that shows
	// an earlier time. Zero where the build does not say.
	Built time.Time
	// Sleep pauses between two attempts of a stage. nil: in real time. Tests
	// set it so that they do not wait.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Notes keeps facts across checks and boots that the machine does not tell.
type Notes interface {
	Notes() state.Notes
	SetNotes(change func(*state.Notes)) error
}

// CacheDir keeps fetched artifacts by their sha256.
const CacheDir = "/var/lib/firstboot/cache"

// BundleDirs are where a bundle lies: of the image, or put there later.
func BundleDirs() []string {
	return []string{"/usr/lib/firstboot/bundle", "/var/lib/firstboot/bundle"}
}

// short bounds a question to a daemon of this machine or to etcd.
const queryTimeout = 10 * time.Second

// nodeName is this host's name in Calico: always its host name, because the
// plugin uses that one whatever it is told.
func (e *Env) nodeName() string { return e.Host.Hostname() }

// etcd opens the cluster's etcd. The caller closes it.
func (e *Env) etcd() (*cluster.Client, error) {
	c := e.Config.Etcd
	return cluster.Dial(cluster.Options{
		Endpoints: c.Endpoints, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		Username: c.Username, Timeout: queryTimeout,
	})
}

// withEtcd calls use with an open client; what fails because etcd is out of
// reach becomes a wait for it.
func (e *Env) withEtcd(ctx context.Context, use func(context.Context, *cluster.Client) error) error {
	client, err := e.etcd()
	if err != nil {
		return e.etcdWait(err)
	}
	defer client.Close()
	pinged, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := client.Ping(pinged); err != nil {
		return e.etcdWait(err)
	}
	return use(ctx, client)
}

func (e *Env) etcdWait(err error) error {
	return &engine.Wait{For: "etcd at " + strings.Join(e.Config.Etcd.Endpoints, ", "), Err: err}
}

// address is the IPv4 address under which this host is a BGP peer: the
// configured one if the machine has it, else the one that reaches etcd.
func (e *Env) address(ctx context.Context) (netip.Addr, error) {
	want := e.Config.Host.Address
	if want == "" {
		return e.addressTowardsEtcd(ctx)
	}
	all, err := e.Host.Network().Addresses()
	if err != nil {
		return netip.Addr{}, err
	}
	matches := addressMatcher(want)
	for _, a := range all {
		if a.Prefix.Addr().Is4() && matches(a) {
			return a.Prefix.Addr(), nil
		}
	}
	return netip.Addr{}, engine.WithHint(fmt.Errorf("no address of this machine matches host.address %s; it has %s", want, listAddresses(all)),
		"set host.address to one of these, to interface=NAME, or leave it empty for the address that reaches etcd")
}

// addressMatcher understands the three forms of host.address.
func addressMatcher(want string) func(host.Address) bool {
	if name, ok := strings.CutPrefix(want, "interface="); ok {
		return func(a host.Address) bool { return a.Interface == name }
	}
	if network, err := netip.ParsePrefix(want); err == nil {
		return func(a host.Address) bool { return network.Contains(a.Prefix.Addr()) }
	}
	return func(a host.Address) bool { return a.Prefix.Addr().String() == want }
}

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

func (e *Env) addressTowardsEtcd(ctx context.Context) (netip.Addr, error) {
	var last error
	for _, endpoint := range e.Config.Etcd.Endpoints {
		to, err := e.resolve(ctx, endpoint)
		if err != nil {
			last = err
			continue
		}
		source, err := e.Host.Network().SourceAddress(to)
		if err == nil && source.IsLoopback() {
			return e.onlyAddress()
		}
		if err == nil {
			return source, nil
		}
		last = err
	}
	return netip.Addr{}, &engine.Wait{For: "a route to etcd at " + strings.Join(e.Config.Etcd.Endpoints, ", "), Err: last}
}

// onlyAddress serves the host that etcd itself runs on, where the route to
// etcd says nothing: the machine's one address outside of containers.
func (e *Env) onlyAddress() (netip.Addr, error) {
	all, err := e.Host.Network().Addresses()
	if err != nil {
		return netip.Addr{}, err
	}
	var found []netip.Addr
	for _, a := range all {
		ip := a.Prefix.Addr()
		if ip.Is4() && ip.IsGlobalUnicast() && !isContainerInterface(a.Interface) {
			found = append(found, ip)
		}
	}
	if len(found) != 1 {
		return netip.Addr{}, engine.WithHint(
			fmt.Errorf("etcd is on this machine, so the address that reaches it does not tell the node's; it has %s", listAddresses(all)),
			"set host.address")
	}
	return found[0], nil
}

// containerInterface tells the interfaces of containers and tunnels, whose
// addresses are never the host's own.
func isContainerInterface(name string) bool {
	for _, p := range []string{"cali", "tunl", "docker", "br-", "veth", "vxlan"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// resolve finds an IPv4 address of an endpoint's host.
func (e *Env) resolve(ctx context.Context, endpoint string) (netip.Addr, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cannot understand the endpoint %s", endpoint)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return ip, nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	ips, err := e.Host.Network().Resolve(ctx, u.Hostname())
	if err != nil || len(ips) == 0 {
		return netip.Addr{}, fmt.Errorf("cannot resolve %s: %w", u.Hostname(), err)
	}
	return ips[0], nil
}

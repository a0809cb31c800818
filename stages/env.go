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

// Env is the environment of the stages. It is not changed after its creation.
type Env struct {
	Host   *host.Host
	Config *config.Config
	Store  *artifact.Store
	Notes  Notes
	// Self is the path of the running binary. The image of the probe container
	// is made from it.
	Self string
	// Built is the time at which the binary was built, zero if unknown. A clock
	// that shows an earlier time is wrong.
	Built time.Time
	// Sleep replaces the pauses of a stage that polls. nil: real time. Tests set
	// it so that they do not wait.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Notes stores facts that later checks need, also after a reboot, and that
// cannot be read from the machine.
type Notes interface {
	Notes() state.Notes
	SetNotes(change func(*state.Notes)) error
}

// CacheDir holds fetched artifacts under the name of their digest.
const CacheDir = "/var/lib/firstboot/cache"

// BundleDirs returns the directories of the bundles: the one in the image, and
// the one that can be added later.
func BundleDirs() []string {
	return []string{"/usr/lib/firstboot/bundle", "/var/lib/firstboot/bundle"}
}

// queryTimeout limits one query to etcd or to a daemon of this machine.
const queryTimeout = 10 * time.Second

// nodeName returns this host's name in Calico. It is always the host name,
// because the plugin uses no other.
func (e *Env) nodeName() string { return e.Host.Hostname() }

// etcd returns a client for the cluster's etcd. The caller closes it.
func (e *Env) etcd() (*cluster.Client, error) {
	c := e.Config.Etcd
	return cluster.Dial(cluster.Options{
		Endpoints: c.Endpoints, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		Username: c.Username, Timeout: queryTimeout,
	})
}

// withEtcd calls use with an open client. It returns an *engine.Wait if etcd
// cannot be reached.
func (e *Env) withEtcd(ctx context.Context, use func(context.Context, *cluster.Client) error) error {
	client, err := e.etcd()
	if err != nil {
		return e.etcdWait(err)
	}
	defer client.Close()
	pingCtx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := client.Ping(pingCtx); err != nil {
		return e.etcdWait(err)
	}
	return use(ctx, client)
}

// etcdWait returns a wait for etcd that wraps err.
func (e *Env) etcdWait(err error) error {
	return &engine.Wait{For: "etcd at " + strings.Join(e.Config.Etcd.Endpoints, ", "), Err: err}
}

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
	matches := addressMatcher(want)
	for _, a := range all {
		if a.Prefix.Addr().Is4() && matches(a) {
			return a.Prefix.Addr(), nil
		}
	}
	return netip.Addr{}, engine.WithHint(fmt.Errorf("no address of this machine matches host.address %s; it has %s", want, listAddresses(all)),
		"set host.address to one of these or to interface=NAME, or leave it empty to use the address that reaches etcd")
}

// addressMatcher returns a function that reports whether an address matches
// host.address, which is interface=NAME, a CIDR or an address.
func addressMatcher(want string) func(host.Address) bool {
	if name, ok := strings.CutPrefix(want, "interface="); ok {
		return func(a host.Address) bool { return a.Interface == name }
	}
	if network, err := netip.ParsePrefix(want); err == nil {
		return func(a host.Address) bool { return network.Contains(a.Prefix.Addr()) }
	}
	return func(a host.Address) bool { return a.Prefix.Addr().String() == want }
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
			return e.onlyAddress()
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
			fmt.Errorf("cannot choose the node's address: etcd is on this machine, which has %s", listAddresses(all)),
			"set host.address")
	}
	return found[0], nil
}

// isContainerInterface reports whether an interface belongs to containers or a
// tunnel. Its addresses are never the host's own.
func isContainerInterface(name string) bool {
	for _, p := range []string{"cali", "tunl", "docker", "br-", "veth", "vxlan"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// resolve returns an IPv4 address of an endpoint's host.
func (e *Env) resolve(ctx context.Context, endpoint string) (netip.Addr, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cannot parse the endpoint %s", endpoint)
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

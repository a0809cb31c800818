package stages

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// Env is the environment of the stages. Its exported fields are not changed after
// its creation.
type Env struct {
	Host   *host.Host
	Config *config.Config
	Store  *artifact.Store
	Notes  Notes
	// Self is the path of the running binary, which the probe container runs.
	Self string
	// Built is the time at which the binary was built, zero if unknown. A clock
	// that shows an earlier time is wrong.
	Built time.Time
	// Sleep replaces the pauses of a stage that polls. nil: real time. Tests set
	// it so that they do not wait.
	Sleep func(ctx context.Context, d time.Duration) error

	client   sync.Once // dockerd
	dockerd  *dockerd.Client
	restarts atomic.Int32 // of Docker in this run
	// nodeReady means that calico-node was ready in this run.
	nodeReady atomic.Bool
	changes   unitChanges
	expected  sync.Once // expectFiles
	calicoctl struct {  // what checkCalicoctl found last
		sync.Mutex
		checked state.Program
	}
	packaged struct { // of the plugin
		sync.Mutex
		known   bool
		changed []string          // what rpm -V printed last
		stamps  map[string]string // of the files whose digests rpm has compared, in this run or earlier
	}
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

// ignores reports whether preflight.ignore contains the name of a finding. A
// stage then warns of what preflight would have refused.
func (e *Env) ignores(name string) bool { return slices.Contains(e.Config.Preflight.Ignore, name) }

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

// etcdWait returns a wait for etcd if err is transient. Any other error, and one
// that waits for something else, stays as it is.
func (e *Env) etcdWait(err error) error {
	if isWait(err) || fault.ClassOf(err) != fault.Transient {
		return err
	}
	return &engine.Wait{For: "etcd at " + strings.Join(e.Config.Etcd.Endpoints, ", "), Err: err}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
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
	if err == nil && len(ips) == 0 {
		err = errors.New("it has no IPv4 address")
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cannot resolve %s: %w", u.Hostname(), err)
	}
	return ips[0], nil
}

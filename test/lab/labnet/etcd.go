package labnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

const (
	etcdPort    = 2379
	etcdTLSPort = 2381 // of a mixed etcd; 2380 is that of peers
	// etcdTimeout limits the start of etcd. It took up to 4 s while two machines
	// were busy.
	etcdTimeout = 60 * time.Second
)

// EtcdOptions configure an etcd. The zero value is an etcd without TLS that also
// serves the v2 API, which Docker's cluster store needs.
type EtcdOptions struct {
	Program string // path; empty: etcd in PATH
	NoV2    bool   // do not serve the v2 API
	// TLS requires client certificates, and the users Root and User.
	TLS bool
	// Mixed also serves clients with certificates, at TLSEndpoint. There are no
	// users, because a client without TLS has no certificate.
	Mixed        bool
	Certificates Certificates // with TLS or Mixed; for the network's Gateway
}

// HasTLS reports whether the etcd needs certificates.
func (o EtcdOptions) HasTLS() bool { return o.TLS || o.Mixed }

// TLSEndpoint returns the URL for clients with certificates.
func (o EtcdOptions) TLSEndpoint(address netip.Addr) string {
	if o.TLS {
		return o.Endpoint(address)
	}
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(address, etcdTLSPort))
}

// Endpoint returns the URL of the etcd.
func (o EtcdOptions) Endpoint(address netip.Addr) string {
	scheme := "http"
	if o.TLS {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, netip.AddrPortFrom(address, etcdPort))
}

// Etcd is the cluster's etcd. It listens on the bridge's address.
type Etcd struct {
	Endpoint string // http://ADDRESS:2379 or https://ADDRESS:2379
	Log      string // path of its log
	Data     string // path of its data directory

	net     *Network
	options EtcdOptions

	mu      sync.Mutex
	process *procs.Process
}

// Certificates returns the certificates of an etcd with TLS.
func (e *Etcd) Certificates() Certificates { return e.options.Certificates }

// Etcd returns an etcd with its data in dir. Start starts it.
func (n *Network) Etcd(dir string, o EtcdOptions) *Etcd {
	return &Etcd{
		Endpoint: o.Endpoint(n.Gateway()),
		Log:      filepath.Join(dir, "etcd.log"),
		net:      n,
		options:  o,
		Data:     filepath.Join(dir, "etcd"),
	}
}

// Start starts the etcd with its existing data, and waits until it is healthy.
func (e *Etcd) Start(ctx context.Context) error {
	path := e.options.Program
	if path == "" {
		var err error
		if path, err = exec.LookPath("etcd"); err != nil {
			return fmt.Errorf("cannot start etcd: %w (Debian: etcd-server)", err)
		}
	}
	log, err := os.OpenFile(e.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot start etcd: %w", err)
	}
	defer log.Close()
	_, err = os.Stat(e.Data)
	isNew := errors.Is(err, os.ErrNotExist)
	cmd := exec.Command(path, e.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = environment()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		return errors.New("cannot start etcd: it is already running")
	}
	if e.process, err = e.net.group.Start("etcd", cmd); err != nil {
		return err
	}
	if err := e.waitHealthy(ctx, e.process); err != nil || !isNew || !e.options.TLS {
		return err
	}
	return e.addUsers(ctx)
}

func (e *Etcd) arguments() []string {
	const peer = "http://127.0.0.1:2380"
	clients := e.Endpoint
	if e.options.Mixed {
		clients += "," + e.options.TLSEndpoint(e.net.Gateway())
	}
	// Docker's client of the v2 API connects to every advertised URL.
	args := []string{"--name", "lab", "--data-dir", e.Data,
		"--listen-client-urls", clients, "--advertise-client-urls", e.Endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "lab=" + peer}
	if !e.options.NoV2 {
		args = append(args, "--enable-v2") // etcd 3.6 and newer do not know the flag
	}
	if e.options.HasTLS() {
		files := e.options.Certificates.Of(server)
		args = append(args, "--client-cert-auth", "--trusted-ca-file", files.CA, "--cert-file", files.Cert, "--key-file", files.Key)
	}
	return args
}

// CalicoctlEnvironment returns the environment variables with which calicoctl
// connects to this etcd, as the user User if etcd has users.
func (e *Etcd) CalicoctlEnvironment() []string {
	list := []string{"DATASTORE_TYPE=etcdv3", "ETCD_ENDPOINTS=" + e.Endpoint}
	if e.options.TLS {
		files := e.options.Certificates.Of(User)
		list = append(list, "ETCD_CA_CERT_FILE="+files.CA, "ETCD_CERT_FILE="+files.Cert, "ETCD_KEY_FILE="+files.Key)
	}
	return list
}

// environment returns this process's environment without the variables that etcd
// uses as flags.
func environment() []string {
	var list []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ETCD_") {
			list = append(list, v)
		}
	}
	return list
}

func (e *Etcd) waitHealthy(ctx context.Context, p *procs.Process) error {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	client, err := e.httpClient()
	if err != nil {
		return fmt.Errorf("cannot start etcd: %w", err)
	}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := get(ctx, client, e.Endpoint+"/health")
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.Ended():
			return fmt.Errorf("cannot start etcd: it exited (%s), see %s", p.State(), e.Log)
		case <-ctx.Done():
			return fmt.Errorf("cannot start etcd: %w (timed out after %s, see %s)", err, etcdTimeout, e.Log)
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(req)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}

// httpClient returns an HTTP client for this etcd.
func (e *Etcd) httpClient() (*http.Client, error) {
	if !e.options.TLS {
		return e.net.client(nil), nil
	}
	config, err := e.options.Certificates.client(Root)
	return e.net.client(config), err
}

// Client returns an HTTP client in the network.
func (n *Network) Client() *http.Client { return n.client(nil) }

func (n *Network) client(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.Dial(ctx, network, address)
		},
	}}
}

// Stop kills the etcd. Its data is kept.
func (e *Etcd) Stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return nil
	}
	p := e.process
	e.process = nil
	return p.Kill()
}

// Freeze stops the etcd's process until Thaw: the kernel accepts connections, but
// etcd never answers.
func (e *Etcd) Freeze() error {
	return e.withProcess(func(p *procs.Process) error { return p.Freeze() })
}

// Thaw continues a frozen etcd.
func (e *Etcd) Thaw() error {
	return e.withProcess(func(p *procs.Process) error { return p.Signal(syscall.SIGCONT) })
}

func (e *Etcd) withProcess(do func(*procs.Process) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return errors.New("cannot signal etcd: it is not running")
	}
	return do(e.process)
}

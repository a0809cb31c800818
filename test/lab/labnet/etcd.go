package labnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	etcdPort = 2379
	// etcdTime bounds the start of etcd; with two busy machines beside it a
	// start was seen to take 4 s.
	etcdTime = 60 * time.Second
)

// Etcd is the cluster's etcd, on the bridge's address. It serves the v2 API as
// well: Docker's cluster store speaks no other.
type Etcd struct {
	Endpoint string // http://ADDRESS:2379
	Log      string // path of what it says
	Data     string // path of its data

	net *Network

	mu      sync.Mutex
	process *procs.Process
}

// Etcd prepares an etcd that keeps its data under dir; Start starts it.
func (n *Network) Etcd(dir string) *Etcd {
	return &Etcd{
		Endpoint: fmt.Sprintf("http://%s:%d", n.Gateway(), etcdPort),
		Log:      filepath.Join(dir, "etcd.log"),
		net:      n,
		Data:     filepath.Join(dir, "etcd"),
	}
}

// Start starts the etcd with the data that it had, and waits until it answers.
func (e *Etcd) Start(ctx context.Context) error {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return fmt.Errorf("cannot start etcd: %w (Debian: etcd-server)", err)
	}
	log, err := os.OpenFile(e.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot start etcd: %w", err)
	}
	defer log.Close()
	const peer = "http://127.0.0.1:2380"
	cmd := exec.Command(path, "--name", "lab", "--enable-v2", "--data-dir", e.Data,
		"--listen-client-urls", e.Endpoint, "--advertise-client-urls", e.Endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "lab="+peer)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = plainEnvironment()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		return errors.New("cannot start etcd: it runs")
	}
	if e.process, err = e.net.group.Start("etcd", cmd); err != nil {
		return err
	}
	return e.waitHealthy(ctx, e.process)
}

// plainEnvironment is the environment without the variables that etcd would
// take for flags.
func plainEnvironment() []string {
	var list []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ETCD_") {
			list = append(list, v)
		}
	}
	return list
}

func (e *Etcd) waitHealthy(ctx context.Context, p *procs.Process) error {
	ctx, cancel := context.WithTimeout(ctx, etcdTime)
	defer cancel()
	client := e.net.Client()
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
			return fmt.Errorf("cannot start etcd: it ended (%s), see %s", p.State(), e.Log)
		case <-ctx.Done():
			return fmt.Errorf("cannot start etcd: %w after %s, see %s", err, etcdTime, e.Log)
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
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s", url, answer.Status)
	}
	return nil
}

// Client is an HTTP client that lives on the wire.
func (n *Network) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.Dial(ctx, network, address)
		},
	}}
}

// Stop ends the etcd as a crash does; its data stays.
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

// Freeze makes the etcd a black hole: connections are taken, and nothing ever
// answers. Thaw lets it go on.
func (e *Etcd) Freeze() error { return e.signal(syscall.SIGSTOP) }

// Thaw lets a frozen etcd go on.
func (e *Etcd) Thaw() error { return e.signal(syscall.SIGCONT) }

func (e *Etcd) signal(s syscall.Signal) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return fmt.Errorf("cannot send etcd %s: it does not run", s)
	}
	return e.process.Signal(s)
}

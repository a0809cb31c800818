// Package etcdtest runs a real etcd for a test, on free loopback ports and in a
// temporary directory. It ends with the test. A test can kill it, pause it as if
// the network dropped all packets, and restart it with its data.
package etcdtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/program"
)

// startTimeout limits the start of etcd, which normally takes about a second.
const startTimeout = 30 * time.Second

// Options configure the etcd.
type Options struct {
	EnableV2 bool // serve the v2 API as well
	// TLS makes the client endpoint https. Args must then set the certificates.
	TLS  bool
	Args []string // additional flags
}

// Server is a running etcd.
type Server struct {
	Endpoint string // http(s)://127.0.0.1:PORT

	health  string // http://127.0.0.1:PORT, without TLS: etcd's health check
	tb      testing.TB
	dir     string
	peer    string
	options Options
	command *exec.Cmd
	output  *output
	ended   <-chan struct{}
}

// Start runs an etcd until the test ends. If etcd is not installed, the test is
// skipped, or fails under make test (program.Need).
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	addresses := freeAddresses(tb, 3)
	s := &Server{
		tb: tb, dir: dataDir(tb), options: o,
		Endpoint: "http://" + addresses[0], peer: "http://" + addresses[1], health: "http://" + addresses[2],
	}
	if o.TLS {
		s.Endpoint = "https" + strings.TrimPrefix(s.Endpoint, "http")
	}
	tb.Cleanup(s.Kill)
	s.Restart()
	return s
}

// dataDir is in memory if possible: etcd syncs every write, and no test here
// needs data that survives a power cut of this machine.
func dataDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "firstboot-etcd-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Restart kills the etcd if it is running, and starts it again with the same data
// and address.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	path := program.Need(s.tb, "etcd")
	args := []string{
		"--name", "test", "--data-dir", filepath.Join(s.dir, "data"),
		"--listen-client-urls", s.Endpoint, "--advertise-client-urls", s.Endpoint,
		"--listen-peer-urls", s.peer, "--initial-advertise-peer-urls", s.peer,
		"--initial-cluster", "test=" + s.peer,
		"--listen-metrics-urls", s.health,
	}
	if s.options.EnableV2 {
		args = append(args, "--enable-v2")
	}
	s.output = &output{}
	s.command = exec.Command(path, append(args, s.options.Args...)...)
	s.command.Stdout, s.command.Stderr = s.output, s.output
	ended, err := program.Start(s.command, syscall.SIGKILL)
	if err != nil {
		s.command = nil
		s.tb.Fatalf("cannot start etcd: %v", err)
	}
	s.ended = ended
	s.waitHealthy()
}

// waitHealthy waits until etcd has a leader and answers.
func (s *Server) waitHealthy() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := healthy(ctx, s.health)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-s.ended:
			s.tb.Fatalf("etcd exited during the start:\n%s", s.output)
		case <-ctx.Done():
			s.tb.Fatalf("etcd did not become healthy (%v):\n%s", err, s.output)
		}
	}
}

func healthy(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", resp.Status)
	}
	return nil
}

// Kill ends the etcd with SIGKILL. It does nothing if etcd is not running.
func (s *Server) Kill() {
	if s.command == nil || s.command.Process == nil {
		return
	}
	_ = s.command.Process.Kill()
	<-s.ended
	s.command = nil
}

// Pause stops the etcd with SIGSTOP until Resume: the kernel accepts connections,
// but etcd never answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume continues a paused etcd.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if s.command == nil {
		s.tb.Fatal("etcd is not running")
	}
	if err := s.command.Process.Signal(sig); err != nil {
		s.tb.Fatalf("cannot signal etcd: %v", err)
	}
}

// freeAddresses returns n different addresses on which nothing listens. All of them
// are taken before the first is released: the kernel may return a released port again.
func freeAddresses(tb testing.TB, n int) []string {
	tb.Helper()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatalf("cannot find a free port: %v", err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// output keeps the end of etcd's output.
type output struct {
	mu   sync.Mutex
	tail bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	const most = 64 << 10
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tail.Len() > most {
		o.tail.Reset()
	}
	return o.tail.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tail.String()
}

package adapter

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

const (
	dockerNetwork  = "2f6a1c0d9b8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a"
	dockerEndpoint = "c0ffee0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
)

// links is the network of a machine of which only RemoveVeth is used.
type links struct {
	host.Network
	mu      sync.Mutex
	removed []string
	err     error
}

func (l *links) RemoveVeth(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removed = append(l.removed, name)
	return l.err
}

// machine is a machine with an adapter.
type machine struct {
	*host.Host
	*Adapter
	links *links
	mu    sync.Mutex
	lines []string
}

func (m *machine) logged() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines, "\n")
}

// newMachine returns a machine below a short path: that of a socket has at most 107
// bytes. It is in memory, as /run is: writing to a disk takes too long for a fuzz
// target.
func newMachine(tb testing.TB) *machine {
	tb.Helper()
	root, err := os.MkdirTemp("/dev/shm", "fb")
	if err != nil {
		root, err = os.MkdirTemp("", "fb")
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(root) })
	m := &machine{links: &links{}}
	m.Host = host.New(root, host.WithNetwork(m.links))
	m.Adapter = New(m.Host, func(line string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lines = append(m.lines, line)
	})
	return m
}

// setUp writes the file of a host that has joined.
func (m *machine) setUp(tb testing.TB) {
	tb.Helper()
	if err := (Network{"firstboot-pool", netip.MustParsePrefix("10.213.0.0/16")}).Save(m.Host); err != nil {
		tb.Fatal(err)
	}
}

// limit shortens the waits for the plugin.
func (m *machine) limit(dial, call time.Duration) {
	m.client = pluginClient(m.RealPath(PluginSocket), dial, call)
}

// plugin stands in for eru-minions and records what it is called with.
type plugin struct {
	mu     sync.Mutex
	paths  []string
	bodies []string
}

func (p *plugin) called() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.bodies)
}

// startPlugin starts a stand-in for eru-minions. It answers each call by handle.
func (m *machine) startPlugin(tb testing.TB, handle http.HandlerFunc) *plugin {
	tb.Helper()
	p := &plugin{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			tb.Error(err)
		}
		p.mu.Lock()
		p.paths, p.bodies = append(p.paths, r.URL.RequestURI()), append(p.bodies, string(body))
		p.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		handle(w, r)
	})}
	listener := listen(tb, m.RealPath(PluginSocket))
	go server.Serve(listener)
	tb.Cleanup(func() { server.Close() })
	return p
}

func listen(tb testing.TB, socket string) net.Listener {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	return listener
}

// answers returns a handler that always gives the same answer.
func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// post sends one call to the adapter, as Docker does.
func (m *machine) post(path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://plugin.moby.localhost"+path, strings.NewReader(body))
	r.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w
}

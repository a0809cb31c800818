package adapter

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts the adapter on a socket and returns Serve's result when it ends.
func (m *machine) serve(tb testing.TB) (socket string, stop context.CancelFunc, ended <-chan error) {
	tb.Helper()
	socket = m.RealPath(Socket)
	listener := listen(tb, socket)
	// As with systemd's socket: closing it does not remove the file.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	ctx, stop := context.WithCancel(tb.Context())
	result := make(chan error, 1)
	go func() { result <- m.Serve(ctx, listener) }()
	tb.Cleanup(stop)
	return socket, stop, result
}

// dockerClient is a client like Docker's, which keeps connections.
func dockerClient(socket string) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
}

func send(client *http.Client, method, body string) (int, error) {
	resp, err := client.Post("http://plugin/NetworkDriver."+method, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

const join = `{"NetworkID":"` + dockerNetwork + `","EndpointID":"` + dockerEndpoint + `"}`

func TestStopFinishesTheCallsInFlight(t *testing.T) {
	m := newMachine(t)
	m.setUp(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	m.startPlugin(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		w.Write([]byte("{}"))
	})
	socket, stop, ended := m.serve(t)
	client := dockerClient(socket)
	results := make(chan error, 2)
	for range 2 {
		go func() {
			code, err := send(client, "Join", join)
			if err == nil && code != http.StatusOK {
				err = errors.New(http.StatusText(code))
			}
			results <- err
		}()
		<-arrived
	}
	stop()
	select {
	case err := <-ended:
		t.Fatalf("Serve ended with two calls in flight: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestPluginIsAwaited verifies that a call waits for a plugin that restarts.
func TestPluginIsAwaited(t *testing.T) {
	m := newMachine(t)
	m.setUp(t)
	result := make(chan int, 1)
	go func() { result <- m.post("/NetworkDriver.Join", join).Code }()
	select {
	case code := <-result:
		t.Fatalf("answered %d without a plugin", code)
	case <-time.After(3 * dialInterval):
	}
	m.startPlugin(t, answers(http.StatusOK, "{}"))
	if code := <-result; code != http.StatusOK {
		t.Errorf("%d: %s", code, m.logged())
	}
}

func TestReady(t *testing.T) {
	m := newMachine(t)
	if err := Ready(t.Context(), m.Host); err == nil || !strings.Contains(err.Error(), "the adapter does not answer on "+Socket) {
		t.Errorf("without a socket: %v", err)
	}
	_, stop, ended := m.serve(t)
	if err := Ready(t.Context(), m.Host); err != nil {
		t.Errorf("with the adapter: %v", err)
	}
	stop()
	<-ended
	plugin := newMachine(t)
	server := &http.Server{Handler: answers(http.StatusOK, `{"Scope":"global"}`)}
	go server.Serve(listen(t, plugin.RealPath(Socket)))
	defer server.Close()
	if err := Ready(t.Context(), plugin.Host); err == nil || !strings.Contains(err.Error(), "the adapter does not own the socket") {
		t.Errorf("with the plugin's own socket: %v", err)
	}
}

// TestManyCallsAtOnce sends more calls than the adapter passes on at a time. Each has
// its own connection, so that none is sent on one that closes.
func TestManyCallsAtOnce(t *testing.T) {
	m := newMachine(t)
	m.setUp(t)
	var running, most atomic.Int32
	m.startPlugin(t, func(w http.ResponseWriter, _ *http.Request) {
		now := running.Add(1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		running.Add(-1)
		w.Write([]byte("{}"))
	})
	socket, _, _ := m.serve(t)
	var calls sync.WaitGroup
	for range 3 * maxCalls {
		calls.Go(func() {
			resp, err := dockerClient(socket).Post("http://plugin/NetworkDriver.Join", "application/json", strings.NewReader(join))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK || !resp.Close {
				t.Errorf("status %d, the connection closes: %v", resp.StatusCode, resp.Close)
			}
		})
	}
	calls.Wait()
	if n := most.Load(); n > maxCalls || n < 2 {
		t.Errorf("%d calls at a time, want at most %d", n, maxCalls)
	}
}

// The plugin's socket is where go-plugins-helpers makes it: at an absolute path
// verbatim, otherwise in Docker's directory of plugins, with ".sock" added.
func TestPluginSocketIsOutsideDockersDirectory(t *testing.T) {
	if !filepath.IsAbs(PluginName) || PluginSocket != PluginName || strings.HasPrefix(PluginSocket, filepath.Dir(Socket)) {
		t.Errorf("Docker finds %s, or the plugin does not make it", PluginSocket)
	}
}

// maxAdded is how much a call may take longer than without the adapter.
const maxAdded = time.Millisecond

// BenchmarkCall compares CreateEndpoint through the adapter with the same call of the
// plugin itself, in turns.
func BenchmarkCall(b *testing.B) {
	m := newMachine(b)
	m.setUp(b)
	m.startPlugin(b, answers(http.StatusOK, `{"Interface":{}}`))
	socket, _, _ := m.serve(b)
	body := `{"NetworkID":"` + dockerNetwork + `","EndpointID":"` + dockerEndpoint + `","Interface":{"Address":"10.213.0.2/16"},"Options":{}}`
	call := func(client *http.Client) time.Duration {
		start := time.Now()
		if code, err := send(client, "CreateEndpoint", body); err != nil || code != http.StatusOK {
			b.Fatal(code, err, m.logged())
		}
		return time.Since(start)
	}
	direct, through := dockerClient(m.RealPath(PluginSocket)), dockerClient(socket)
	var without, with []time.Duration
	for b.Loop() {
		without = append(without, call(direct))
		with = append(with, call(through))
	}
	// Medians: other work on the machine delays single calls.
	d, t := median(without), median(with)
	b.ReportMetric(float64(d.Microseconds()), "direct-µs/op")
	b.ReportMetric(float64(t.Microseconds()), "adapter-µs/op")
	b.ReportMetric(float64((t - d).Microseconds()), "added-µs/op")
	b.ReportMetric(float64(t)/float64(d), "ratio")
	if t-d > maxAdded {
		b.Errorf("the adapter adds %v to a call, more than %v", t-d, maxAdded)
	}
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

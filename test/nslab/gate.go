package nslab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
)

// behindGate is where the plugin listens while a gate has its socket.
const behindGate = adapter.PluginSocket + ".behind"

// Gate stops one call between a host's adapter and its plugin.
type Gate struct {
	// Reached is closed when the call is stopped.
	Reached chan struct{}

	host    *Host
	method  string
	after   bool // the plugin has answered, and the adapter has no answer
	once    sync.Once
	release chan bool // whether the adapter gets the answer
	socket  os.FileInfo
	server  *http.Server
	plugin  http.Client
}

// OpenGate stops the next call of a method of the network driver, before or after
// the plugin executes it. Other calls pass. The caller must call Close.
func (h *Host) OpenGate(method string, after bool) (*Gate, error) {
	at, behind := h.files().RealPath(adapter.PluginSocket), h.files().RealPath(behindGate)
	if err := os.Rename(at, behind); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // a plugin that was restarted has replaced it
	g := &Gate{
		host: h, method: "/NetworkDriver." + method, after: after, Reached: make(chan struct{}), release: make(chan bool, 1),
	}
	if g.socket, err = os.Stat(at); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	g.plugin.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", behind)
		},
	}
	g.server = &http.Server{Handler: http.HandlerFunc(g.pass), ReadHeaderTimeout: commandTimeout}
	go g.server.Serve(listener) //nolint:errcheck // it ends with Close
	return g, nil
}

// Wait waits until the call is stopped.
func (g *Gate) Wait() error {
	select {
	case <-g.Reached:
		return nil
	case <-time.After(commandTimeout):
		return fmt.Errorf("timed out after %s waiting for %s on %s", commandTimeout, g.method, g.host.Name)
	}
}

// Release lets the call continue. Without an answer the connection ends, as if the
// plugin were killed.
func (g *Gate) Release(answer bool) { g.release <- answer }

// Close gives the plugin its socket back, unless it was restarted and has made a new
// one.
func (g *Gate) Close() error {
	err := g.server.Close()
	at, behind := g.host.files().RealPath(adapter.PluginSocket), g.host.files().RealPath(behindGate)
	if socket, statErr := os.Stat(at); statErr == nil && !os.SameFile(socket, g.socket) {
		return errors.Join(err, os.Remove(behind))
	}
	return errors.Join(err, os.Rename(behind, at))
}

// pass passes a call to the plugin. The plugin executes a stopped call even if the
// adapter no longer waits for it.
func (g *Gate) pass(w http.ResponseWriter, r *http.Request) {
	request, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	stopped, answer := false, true
	if r.URL.Path == g.method {
		g.once.Do(func() { stopped = true })
	}
	if stopped && !g.after {
		answer = g.stop()
	}
	status, body, err := g.call(r, request)
	if stopped && g.after {
		answer = g.stop()
	}
	if err != nil || !answer {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the adapter may have been killed
}

func (g *Gate) stop() (answer bool) {
	close(g.Reached)
	return <-g.release
}

func (g *Gate) call(r *http.Request, request []byte) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), commandTimeout)
	defer cancel()
	passed, err := http.NewRequestWithContext(ctx, r.Method, "http://plugin"+r.URL.Path, bytes.NewReader(request))
	if err != nil {
		return 0, nil, err
	}
	answer, err := g.plugin.Do(passed)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

// Package tunnel lets root's programs on this host that cannot use TLS reach an
// etcd that requires it. It listens on the loopback interface, and connects each
// client to an etcd with the host's client certificate. It copies bytes; it does
// not know etcd's API.
//
// Every local user can connect to a loopback port, and the certificate would make
// each of them the host's etcd user. So the tunnel queries the kernel for the
// owner of each connection and serves root only.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// Address is where the tunnel listens. It is not configurable: every name for
	// it that the plugin could read would be one more way to send plain text to a
	// network.
	Address = "127.0.0.1:23790"
	// Endpoint is the tunnel as an etcd endpoint.
	Endpoint = "http://" + Address
)

// maxConnections limits the connections at one time. The plugin has about ten.
const maxConnections = 256

// maxError limits an error in a line, in characters. It holds one for each of
// several endpoints.
const maxError = 1000

// acceptPause is the pause after a failed accept, such as without free file
// descriptors.
const acceptPause = 100 * time.Millisecond

// Options configure a tunnel.
type Options struct {
	Endpoints []string // https://HOST:PORT each, at least one
	Files     certificate.Files
	Username  string // the CN that the client certificate must have; empty: any
	// Log prints a line for the operator.
	Log func(level Level, line string)
	// Status shows the current state, as of systemctl status; nil: not shown.
	Status func(line string)

	owner          func(client, server netip.AddrPort) (uid uint32, err error) // nil: ownerOf
	maxConnections int                                                         // 0: maxConnections
}

// Server is a tunnel.
type Server struct {
	options Options
	log     *limitedLog
	dialer  *dialer
	slots   chan struct{}
	open    sync.WaitGroup

	mu          sync.Mutex
	failedSince time.Time // zero: the last connection to etcd succeeded
	warned      time.Time // when the files were last examined for warnings
}

// New returns a tunnel. It fails if an endpoint is not an https URL.
func New(o Options) (*Server, error) {
	targets, err := parseEndpoints(o.Endpoints)
	if err != nil {
		return nil, err
	}
	if o.owner == nil {
		o.owner = ownerOf
	}
	if o.maxConnections == 0 {
		o.maxConnections = maxConnections
	}
	if o.Status == nil {
		o.Status = func(string) {}
	}
	return &Server{
		options: o, log: newLimitedLog(o.Log), slots: make(chan struct{}, o.maxConnections),
		dialer: &dialer{targets: targets, files: o.Files, username: o.Username},
	}, nil
}

// Serve serves the clients of a listener until ctx ends. Then it closes the
// listener and all connections, and returns nil. etcd need not be reachable.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.open.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	s.log.print(Info, "start", "serving root on "+l.Addr().String()+" for etcd at "+strings.Join(s.options.Endpoints, ", "))
	s.options.Status("no connection yet")
	s.warnOfFiles()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("cannot accept connections: %w", err)
		case err != nil:
			s.log.print(Warning, "accept", "cannot accept a connection: "+err.Error())
			pause(ctx, acceptPause)
			continue
		}
		client, ok := conn.(*net.TCPConn)
		if !ok || !s.admit(client) {
			conn.Close()
			continue
		}
		s.open.Go(func() {
			defer func() { <-s.slots }()
			s.serve(ctx, client)
		})
	}
}

// admit reports whether a client is served. It takes a slot for it. The query of
// the owner has a limit, so a client cannot delay the next one.
func (s *Server) admit(client *net.TCPConn) bool {
	from, to := addrPort(client.RemoteAddr()), addrPort(client.LocalAddr())
	uid, err := s.options.owner(from, to)
	switch {
	case err != nil:
		s.log.print(Warning, "owner", fmt.Sprintf("refused a connection from %s: cannot find out which user it belongs to: %v", from, err))
		return false
	case uid != 0:
		s.log.print(Warning, "refused", fmt.Sprintf("refused a connection of the user %d: only root may use this port", uid))
		return false
	}
	select {
	case s.slots <- struct{}{}:
		return true
	default:
		s.log.print(Warning, "full", fmt.Sprintf("refused a connection: there are already %d", cap(s.slots)))
		return false
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		p := tcp.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// serve connects a client to etcd and copies until one of them ends.
func (s *Server) serve(ctx context.Context, client *net.TCPConn) {
	defer client.Close()
	_ = client.SetKeepAliveConfig(keepAlive()) // without it a dead client is noticed later
	up, endpoint, err := s.dialer.dial(ctx)
	if ctx.Err() != nil {
		if err == nil {
			up.Close()
		}
		return
	}
	if err != nil {
		s.failed(err)
		return
	}
	defer up.Close()
	s.succeeded(endpoint)
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		up.NetConn().Close()
	})
	defer stop()
	// etcd refuses a certificate after the handshake. Its reason may be lost if the
	// client still sends, so that the certificate's time is checked in any case.
	if err = relay(client, up); err != nil {
		err = s.options.Files.Explain(err, time.Now())
	} else {
		err = s.options.Files.CheckTime(time.Now())
	}
	if err != nil && ctx.Err() == nil {
		s.log.print(Warning, "ended", fmt.Sprintf("a connection to etcd at %s ended: %s", endpoint, withHint(err)))
	}
}

// failed reports that no etcd can be reached.
func (s *Server) failed(err error) {
	s.mu.Lock()
	if s.failedSince.IsZero() {
		s.failedSince = time.Now()
	}
	s.mu.Unlock()
	line := "cannot reach etcd: " + withHint(err)
	s.log.print(Warning, "failed", line)
	s.options.Status(line)
}

// succeeded reports the first connection, and the first one after a failure.
func (s *Server) succeeded(endpoint string) {
	s.mu.Lock()
	since := s.failedSince
	s.failedSince = time.Time{}
	s.mu.Unlock()
	switch {
	case !since.IsZero():
		s.log.again("failed")
		s.log.print(Info, "answers", fmt.Sprintf("etcd at %s answers again after %s", endpoint, time.Since(since).Round(time.Second)))
	default:
		s.log.once(Info, "answers", "connected to etcd at "+endpoint)
	}
	s.options.Status("connected to etcd at " + endpoint)
	s.warnOfFiles()
}

// warnOfFiles warns once a day of certificates that expire soon.
func (s *Server) warnOfFiles() {
	now := time.Now()
	s.mu.Lock()
	due := now.Sub(s.warned) >= 24*time.Hour
	if due {
		s.warned = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	for _, line := range s.options.Files.Warnings(now) {
		s.options.Log(Warning, line)
	}
}

// withHint returns an error as one line, with what a person can do.
func withHint(err error) string {
	line := text.LineOf(err.Error(), maxError)
	if hint := fault.Hint(err); hint != "" {
		line += " (" + hint + ")"
	}
	return line
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

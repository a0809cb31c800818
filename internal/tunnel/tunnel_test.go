package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/test/certtest"
)

// limit ends a test that waits for something that does not happen.
const limit = 20 * time.Second

// servers are TLS servers, in the place of etcd, that require client
// certificates.
type servers struct {
	t      *testing.T
	ca     *certtest.CA
	client certtest.Pair
}

func newServers(t *testing.T) *servers {
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	return &servers{t, ca, ca.Issue("client", certtest.Certificate{CN: "host1"})}
}

func (s *servers) files() certificate.Files {
	return certificate.Files{CA: s.ca.File, Cert: s.client.Cert, Key: s.client.Key}
}

// start runs a server that calls handle for each connection after its handshake.
// edit changes its configuration.
func (s *servers) start(handle func(*tls.Conn), edit func(*tls.Config)) (endpoint string) {
	s.t.Helper()
	pair := s.ca.Issue("server", certtest.Certificate{CN: "server"})
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	data, err := os.ReadFile(s.ca.File)
	if err != nil || !pool.AppendCertsFromPEM(data) {
		s.t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	if edit != nil {
		edit(config)
	}
	l, err := tls.Listen("tcp4", "127.0.0.1:0", config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if secure := c.(*tls.Conn); secure.Handshake() == nil {
					handle(secure)
				}
			}()
		}
	}()
	return "https://" + l.Addr().String()
}

// echo sends everything back after the client has closed its direction.
func echo(c *tls.Conn) {
	data, err := io.ReadAll(c)
	if err == nil {
		_, _ = c.Write(append([]byte("echo: "), data...))
	}
}

// lines collects the lines of a tunnel.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) log(_ Level, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// running is a tunnel that serves.
type running struct {
	*lines
	t       *testing.T
	address string
	stop    context.CancelFunc
	ended   chan error
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{lines: &lines{}, t: t, ended: make(chan error, 1)}
	o.Log = r.log
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.ended <- s.Serve(ctx, l); close(r.ended) }()
	t.Cleanup(func() { stop(); <-r.ended })
	return r
}

func (r *running) dial() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp4", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		r.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// exchange sends text, closes that direction and returns the answer.
func (r *running) exchange(text string) (string, error) {
	c := r.dial()
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// waitFor waits until a line contains text.
func (r *running) waitFor(text string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	for !strings.Contains(r.text(), text) {
		if pause(ctx, 10*time.Millisecond); ctx.Err() != nil {
			r.t.Fatalf("no line contains %q:\n%s", text, r.text())
		}
	}
}

func self(netip.AddrPort, netip.AddrPort) (uint32, error) { return 0, nil }

// TestBytesPassInBothDirections, more than any buffer holds, and the end of one
// direction does not end the other.
func TestBytesPassInBothDirections(t *testing.T) {
	s := newServers(t)
	r := start(t, Options{Endpoints: []string{s.start(echo, nil)}, Files: s.files(), Username: "host1", owner: self})
	large := strings.Repeat("0123456789abcdef", 1<<18)
	got, err := r.exchange(large)
	if err != nil || got != "echo: "+large {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(large)+6)
	}
	r.waitFor("connected to etcd at https://127.0.0.1:")
}

func TestOtherUsersAreRefused(t *testing.T) {
	s := newServers(t)
	reached := make(chan bool, 1)
	r := start(t, Options{Endpoints: []string{s.start(func(*tls.Conn) { reached <- true }, nil)}, Files: s.files()})
	_ = connectAs(t, 4711, r.address).Wait() // the child ends when the tunnel closes the connection
	r.waitFor("refused a connection of the user 4711: only root may use this port")
	if len(reached) > 0 {
		t.Error("the connection reached etcd")
	}
	// The same tunnel serves root, which owns this process.
	if _, err := r.exchange("x"); err != nil || len(reached) != 1 {
		t.Errorf("root: %v; reached etcd %d times\n%s", err, len(reached), r.text())
	}
}

func TestUnknownOwnerIsRefused(t *testing.T) {
	s := newServers(t)
	reached := make(chan bool, 1)
	r := start(t, Options{Endpoints: []string{s.start(func(*tls.Conn) { reached <- true }, nil)}, Files: s.files(),
		owner: func(netip.AddrPort, netip.AddrPort) (uint32, error) { return 0, errNoSocket }})
	if answer, _ := r.exchange("x"); answer != "" || len(reached) > 0 {
		t.Errorf("answered %q", answer)
	}
	r.waitFor("cannot find out which user it belongs to")
}

// TestNextEndpointIsTried: one that refuses, does not answer, is not etcd or has
// another certificate costs little time, and the good one is remembered.
func TestNextEndpointIsTried(t *testing.T) {
	s := newServers(t)
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	bad := []string{
		"https://" + closed.Addr().String(), "https://" + silent.Addr().String(),
		s.start(echo, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }),
		newServers(t).start(echo, nil),
	}
	r := start(t, Options{Endpoints: append(bad, s.start(echo, nil)), Files: s.files(), owner: self})
	for i, most := range []time.Duration{5 * time.Second, 400 * time.Millisecond} {
		began := time.Now()
		if answer, err := r.exchange("x"); answer != "echo: x" || err != nil || time.Since(began) > most {
			t.Errorf("connection %d: %q, %v after %v\n%s", i, answer, err, time.Since(began), r.text())
		}
	}
	all := start(t, Options{Endpoints: bad, Files: s.files(), owner: self})
	began := time.Now()
	if answer, _ := all.exchange("x"); answer != "" || time.Since(began) > dialLimit+time.Second {
		t.Errorf("%q after %v", answer, time.Since(began))
	}
	for _, want := range []string{"connection refused", "does not offer HTTP/2", "unknown authority", strings.TrimPrefix(bad[1], "https://") + ": timed out after"} {
		all.waitFor(want)
	}
}

// TestRenewedCertificateNeedsNoRestart: the files are read for each connection.
func TestRenewedCertificateNeedsNoRestart(t *testing.T) {
	s := newServers(t)
	names := make(chan string, 3)
	endpoint := s.start(func(c *tls.Conn) { names <- c.ConnectionState().PeerCertificates[0].Subject.CommonName }, nil)
	past := time.Now().Add(-time.Minute)
	s.client = s.ca.Issue("client", certtest.Certificate{CN: "old", NotBefore: past.Add(-time.Hour), NotAfter: past})
	r := start(t, Options{Endpoints: []string{endpoint}, Files: s.files(), owner: self})
	if _, err := r.exchange("x"); err == nil && len(names) > 0 {
		t.Error("an expired certificate is accepted")
	}
	r.waitFor("expired on " + past.UTC().Format("2006-01-02"))
	r.waitFor("check the clock")
	s.ca.Issue("client", certtest.Certificate{CN: "new"})
	if _, err := r.exchange("x"); err != nil || len(names) != 1 || <-names != "new" {
		t.Errorf("the renewed certificate is not used: %v\n%s", err, r.text())
	}
}

func TestUnusableFilesAreReportedAndTriedAgain(t *testing.T) {
	s := newServers(t)
	r := start(t, Options{Endpoints: []string{s.start(echo, nil)}, Files: s.files(), Username: "host2", owner: self})
	if answer, _ := r.exchange("x"); answer != "" {
		t.Errorf("the certificate of another user was used: %q", answer)
	}
	r.waitFor(`cannot reach etcd: cannot be the etcd user "host2": etcd.certFile ` + s.client.Cert + ` has the CN "host1"`)
	s.ca.Issue("client", certtest.Certificate{CN: "host2"})
	if answer, err := r.exchange("x"); answer != "echo: x" {
		t.Errorf("%q, %v\n%s", answer, err, r.text())
	}
	r.waitFor("answers again after 0s")
}

func TestConnectionsAreLimited(t *testing.T) {
	s := newServers(t)
	r := start(t, Options{Endpoints: []string{s.start(echo, nil)}, Files: s.files(), owner: self, maxConnections: 2})
	first, second := r.dial(), r.dial()
	if answer, _ := r.exchange("x"); answer != "" {
		t.Errorf("a third connection was served: %q", answer)
	}
	r.waitFor("refused a connection: there are already 2")
	for _, c := range []*net.TCPConn{first, second} {
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); string(answer) != "echo: " {
			t.Errorf("%q, %v", answer, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		if answer, _ := r.exchange("x"); answer == "echo: x" {
			return
		}
		if pause(ctx, 10*time.Millisecond); ctx.Err() != nil {
			t.Fatal("the limit counts connections that have ended")
		}
	}
}

// TestStopClosesEverything, also a connection that is in use.
func TestStopClosesEverything(t *testing.T) {
	s := newServers(t)
	established := make(chan bool, 1)
	r := start(t, Options{Endpoints: []string{s.start(func(c *tls.Conn) { established <- true; _, _ = io.ReadAll(c) }, nil)}, Files: s.files(), owner: self})
	c := r.dial()
	<-established
	r.stop()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("Serve = %v", err)
		}
	case <-time.After(limit):
		t.Fatal("the tunnel does not end")
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client's connection is open: %v", err)
	}
	if strings.Contains(r.text(), "ended:") {
		t.Errorf("the stop is reported as an error:\n%s", r.text())
	}
}

func TestServerThatBreaksIsReported(t *testing.T) {
	s := newServers(t)
	r := start(t, Options{Endpoints: []string{s.start(func(c *tls.Conn) {
		_ = c.NetConn().(*net.TCPConn).SetLinger(0) // a reset
		c.NetConn().Close()
	}, nil)}, Files: s.files(), owner: self})
	_, _ = r.exchange("x")
	r.waitFor("a connection to etcd at https://127.0.0.1:")
	r.waitFor(" ended: ")
}

// TestEachDirectionReportsItsError: the reader of a connection may still be waiting
// when the writer fails.
func TestEachDirectionReportsItsError(t *testing.T) {
	s := newServers(t)
	closed := make(chan struct{})
	tunnel, err := New(Options{Endpoints: []string{s.start(func(c *tls.Conn) {
		_ = c.NetConn().(*net.TCPConn).SetLinger(0) // a reset
		c.NetConn().Close()
		close(closed)
	}, nil)}, Files: s.files(), Log: (&lines{}).log})
	if err != nil {
		t.Fatal(err)
	}
	up, _, err := tunnel.dialer.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	<-closed
	etcd := &recorder{Conn: up}
	if _, err := etcd.Write([]byte("x")); err == nil || etcd.writeError == nil {
		t.Errorf("Write returns %v and keeps %v", err, etcd.writeError)
	}
}

func TestEndpointsMustUseTLS(t *testing.T) {
	for _, endpoints := range [][]string{nil, {"http://127.0.0.1:1"}, {"https://127.0.0.1"}, {"https://a:1", "b:1"}} {
		if _, err := New(Options{Endpoints: endpoints, Log: (&lines{}).log}); err == nil {
			t.Errorf("%q is accepted", endpoints)
		}
	}
}

func TestWarningsOfFilesAreRepeatedOnceADay(t *testing.T) {
	s := newServers(t)
	s.client = s.ca.Issue("client", certtest.Certificate{CN: "host1", NotAfter: time.Now().Add(10 * 24 * time.Hour)})
	r := start(t, Options{Endpoints: []string{s.start(echo, nil)}, Files: s.files(), owner: self})
	for range 3 {
		if _, err := r.exchange("x"); err != nil {
			t.Error(err)
		}
	}
	r.waitFor("etcd.certFile " + s.client.Cert + " expires on ")
	if n := strings.Count(r.text(), "expires on"); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

func TestRepeatedLinesAreCounted(t *testing.T) {
	out := &lines{}
	l := newLimitedLog(out.log)
	at := time.Date(2026, 5, 9, 10, 0, 0, 0, time.UTC)
	l.now = func() time.Time { return at }
	for i := range 5 {
		l.print(Warning, "refused", fmt.Sprint("refused ", i))
	}
	l.print(Info, "other", "other")
	l.once(Info, "other", "left out")
	at = at.Add(logInterval)
	l.print(Warning, "refused", "refused 5")
	l.again("refused")
	l.print(Warning, "refused", "refused 6")
	const want = "refused 0\nother\nrefused 5 (and 4 more since 10:00:00 UTC)\nrefused 6"
	if out.text() != want {
		t.Errorf("got\n%s\nwant\n%s", out.text(), want)
	}
}

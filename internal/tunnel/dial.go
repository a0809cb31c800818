package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/fault"
)

const (
	// dialLimit limits all attempts for one client. The plugin exits when etcd
	// does not answer for ten seconds.
	dialLimit = 8 * time.Second
	// attemptLimit limits the connection to one endpoint, with its handshake.
	attemptLimit = 5 * time.Second
	// nextAfter is when the next endpoint is tried beside one that does not answer.
	nextAfter = 500 * time.Millisecond
	// userTimeout is how long etcd may leave sent data unacknowledged.
	userTimeout = 30 * time.Second
)

// keepAlive detects the end of a machine that did not close its connections
// within 30 seconds.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
}

// target is an etcd server.
type target struct {
	endpoint string // as configured
	address  string // HOST:PORT
	name     string // that its certificate must have
}

func parseEndpoints(endpoints []string) ([]target, error) {
	var targets []target
	for _, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "https" || u.Port() == "" {
			return nil, fault.New(fault.Permanent, fault.Config, errors.New("an endpoint of etcd is not https://HOST:PORT"))
		}
		targets = append(targets, target{e, u.Host, u.Hostname()})
	}
	if len(targets) == 0 {
		return nil, fault.New(fault.Permanent, fault.Config, errors.New("no endpoint of etcd is configured"))
	}
	return targets, nil
}

// dialer connects to one of several etcd servers.
type dialer struct {
	targets  []target
	files    certificate.Files
	username string
	first    atomic.Int32 // index of the target that answered last
}

// attempt is the result of connecting to one target.
type attempt struct {
	index int
	conn  *tls.Conn
	err   error
}

// dial connects to the first target that completes a handshake. It begins with
// the one that answered last. It reads the certificate files again each time.
func (d *dialer) dial(ctx context.Context) (conn *tls.Conn, endpoint string, err error) {
	config, err := d.config()
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	results := make(chan attempt, len(d.targets))
	first, started, failed := int(d.first.Load()), 0, make([]error, 0, len(d.targets))
	start := func() {
		index := (first + started) % len(d.targets)
		started++
		go func() {
			began := time.Now()
			conn, err := d.targets[index].connect(ctx, config)
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
				err = fault.New(fault.Transient, fault.Timeout, fmt.Errorf("timed out after %s", time.Since(began).Round(time.Second)))
			}
			results <- attempt{index, conn, err}
		}()
	}
	start()
	next := time.NewTicker(nextAfter)
	defer next.Stop()
	for len(failed) < len(d.targets) {
		select {
		case <-next.C:
		case r := <-results:
			if r.err == nil {
				d.first.Store(int32(r.index)) //nolint:gosec // a configuration has few endpoints
				go closeOthers(results, started-len(failed)-1)
				return r.conn, d.targets[r.index].endpoint, nil
			}
			why := d.files.Explain(r.err, time.Now())
			failed = append(failed, fault.WithHint(fault.ClassOf(why), fault.KindOf(why), fmt.Errorf("%s: %w", d.targets[r.index].address, why), fault.Hint(why)))
		}
		if started < len(d.targets) {
			start()
		}
	}
	return nil, "", oneLine(failed)
}

// closeOthers closes the connections of attempts that were too late.
func closeOthers(results <-chan attempt, running int) {
	for range running {
		if r := <-results; r.conn != nil {
			r.conn.Close()
		}
	}
}

// config reads the certificate files.
func (d *dialer) config() (*tls.Config, error) {
	if d.username != "" {
		if err := d.files.CheckUser(d.username); err != nil {
			return nil, err
		}
	}
	config, err := d.files.Config()
	if err != nil {
		return nil, err
	}
	config.NextProtos = []string{"h2"} // gRPC
	return config, nil
}

// noProtocol is the alert of a server that knows none of the client's protocols
// (RFC 7301).
const noProtocol = tls.AlertError(120)

// connect connects to a target and completes the handshake.
func (t target) connect(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	d := net.Dialer{KeepAliveConfig: keepAlive(), Control: limitUnacknowledged}
	raw, err := d.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, withoutAddress(err)
	}
	config = config.Clone()
	config.ServerName = t.name
	conn := tls.Client(raw, config)
	err = conn.HandshakeContext(ctx)
	var alert *net.OpError
	refused := errors.As(err, &alert) && alert.Err.Error() == noProtocol.Error()
	if err != nil && !refused {
		raw.Close()
		return nil, err
	}
	if refused || conn.ConnectionState().NegotiatedProtocol != "h2" {
		raw.Close()
		return nil, fault.WithHint(fault.Permanent, fault.Config, errors.New("the server does not offer HTTP/2, so it is not etcd"),
			"correct etcd.endpoints: each must be the client URL of an etcd server")
	}
	return conn, nil
}

// limitUnacknowledged ends a connection whose peer disappeared while data is on
// its way. Keep-alive probes are not sent then.
func limitUnacknowledged(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
	})
	return errors.Join(err, failed)
}

// withoutAddress removes the address from an error: the caller adds it.
func withoutAddress(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return op.Err
	}
	return err
}

// oneLine joins the errors of all endpoints. The class, the kind and the hint are
// those of the error that is the least severe.
func oneLine(failed []error) error {
	all := &fault.Error{Class: fault.ClassOf(failed[0])}
	var texts []string
	for i, err := range failed {
		texts = append(texts, err.Error())
		if class := fault.ClassOf(err); i == 0 || class < all.Class {
			all.Class, all.Kind, all.Advice = class, fault.KindOf(err), fault.Hint(err)
		}
	}
	all.Err = errors.New(strings.Join(texts, "; "))
	return all
}

package host

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// connectTimeout bounds the connection to systemd, which normally takes
// milliseconds. D-Bus waits as long for an answer by default (25 s).
const connectTimeout = 25 * time.Second

// systemdConn connects to systemd through its private socket, which needs root
// but no D-Bus daemon, and otherwise through the system bus.
type systemdConn struct {
	step func(op, target string)
	// dial makes a connection that lasts as long as ctx.
	dial  func(ctx context.Context) (*dbus.Conn, error)
	limit time.Duration // of dial
	turn  chan struct{} // holds one value while a caller uses conn
	conn  *dbus.Conn
}

func newSystemdConn(step func(op, target string)) *systemdConn {
	return &systemdConn{step: step, dial: dialSystemd, limit: connectTimeout, turn: make(chan struct{}, 1)}
}

func dialSystemd(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil && ctx.Err() == nil {
		conn, err = dbus.NewSystemConnectionContext(ctx)
	}
	return conn, err
}

// connect returns the connection. It makes one if there is none, or if systemd
// closed it.
func (s *systemdConn) connect(ctx context.Context) (*dbus.Conn, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot reach systemd: %w", context.Cause(ctx))
	}
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	err := WithLimit(ctx, s.limit, "connect to systemd", func(ctx context.Context) (err error) {
		s.conn, err = s.dialWithin(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.conn, nil
}

// dialWithin dials until ctx ends. The connection outlives ctx.
func (s *systemdConn) dialWithin(ctx context.Context) (*dbus.Conn, error) {
	lifetime, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	// A server that accepts and never answers blocks dial. The end of the
	// lifetime closes the socket, and dial returns.
	stop := context.AfterFunc(ctx, hangUp)
	conn, err := s.dial(lifetime)
	if stop() && err == nil {
		return conn, nil
	}
	hangUp()
	if err == nil || ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, fmt.Errorf("cannot reach systemd: %w", err)
}

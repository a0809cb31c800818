package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// connectTimeout bounds the connection to systemd, which normally takes
// milliseconds. D-Bus waits as long for an answer by default (25 s).
const connectTimeout = 25 * time.Second

// idleTime is how long a connection to systemd stays open after its last use.
const idleTime = 200 * time.Millisecond

// systemdConn connects to systemd through its private socket, which needs root but no
// D-Bus daemon, and otherwise through the system bus. systemd sends the signals of all
// units to everybody who is connected to the private socket: in a run whose
// connection stayed open, a quarter of firstboot's own CPU time went into them. So
// calls that follow one another share a connection, which is then closed.
type systemdConn struct {
	step func(op, target string)
	// dial makes a connection that lasts as long as ctx.
	dial  func(ctx context.Context) (*dbus.Conn, error)
	limit time.Duration // of dial
	turn  chan struct{} // holds one value while a caller dials

	mu    sync.Mutex
	conn  *dbus.Conn
	users int
	idle  *time.Timer // closes conn
}

func newSystemdConn(step func(op, target string)) *systemdConn {
	return &systemdConn{step: step, dial: dialSystemd, limit: connectTimeout, turn: make(chan struct{}, 1)}
}

// busTimeout bounds the connection to the system bus, without which there is the
// private socket.
const busTimeout = 5 * time.Second

// dialSystemd prefers the system bus. systemd sends the signals of all units to
// everybody who is connected to its private socket, after a reload hundreds of them: a
// fifth of a run's own CPU time went into them. The bus delivers only the signals that
// somebody asked for.
func dialSystemd(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dialFor(ctx, busTimeout, dialBus)
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	conn, privateErr := dialPrivate(ctx, "/run/systemd/private")
	if privateErr != nil {
		return nil, fmt.Errorf("%w; %w", err, privateErr)
	}
	return conn, nil
}

// dialFor dials for at most limit. The connection lasts as long as ctx.
func dialFor(ctx context.Context, limit time.Duration, dial func(context.Context) (*dbus.Conn, error)) (*dbus.Conn, error) {
	lifetime, hangUp := context.WithCancelCause(ctx)
	timeout := fmt.Errorf("timed out after %v", limit)
	timer := time.AfterFunc(limit, func() { hangUp(timeout) })
	conn, err := dial(lifetime)
	if timer.Stop() && err == nil {
		return conn, nil
	}
	if context.Cause(lifetime) == timeout {
		err = timeout
	}
	hangUp(nil)
	return nil, err
}

// dialBus connects to systemd through the system bus.
func dialBus(ctx context.Context) (*dbus.Conn, error) {
	bus, err := godbus.ConnectSystemBus(godbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	// Early in the boot, systemd is not on the bus yet.
	var present bool
	err = bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, "org.freedesktop.systemd1").Store(&present)
	if err == nil && !present {
		err = errors.New("systemd is not on the system bus")
	}
	if err != nil {
		bus.Close()
		return nil, err
	}
	return newConn(bus)
}

// dialPrivate connects to systemd's private socket, which needs root, but no system
// bus.
func dialPrivate(ctx context.Context, socket string) (*dbus.Conn, error) {
	private, err := godbus.Dial("unix:path="+socket, godbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if err := private.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		private.Close()
		return nil, err
	}
	return newConn(private)
}

// newConn uses one connection for calls and for signals, because no signal is read
// here. go-systemd would make two.
func newConn(conn *godbus.Conn) (*dbus.Conn, error) {
	return dbus.NewConnection(func() (*godbus.Conn, error) { return conn, nil })
}

// connect returns a connection, which the caller releases.
func (s *systemdConn) connect(ctx context.Context) (conn *dbus.Conn, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot reach systemd: %w", context.Cause(ctx))
	}
	if conn := s.use(nil); conn != nil {
		return conn, nil
	}
	err = WithLimit(ctx, s.limit, "connect to systemd", func(ctx context.Context) (err error) {
		conn, err = s.dialWithin(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if conn = s.use(conn); conn == nil {
		return nil, errors.New("cannot reach systemd: it closed the connection")
	}
	return conn, nil
}

// use returns the open connection: dialed, if it is not nil. Without an open one it
// returns nil.
func (s *systemdConn) use(dialed *dbus.Conn) *dbus.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dialed != nil {
		s.conn = dialed
	}
	if s.conn == nil || !s.conn.Connected() {
		return nil
	}
	if s.idle != nil {
		s.idle.Stop()
	}
	s.users++
	return s.conn
}

// release ends a use. The last one closes the connection a little later.
func (s *systemdConn) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.idle = time.AfterFunc(idleTime, s.hangUp)
	}
}

// hangUp closes the connection unless it is in use.
func (s *systemdConn) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 && s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
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

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// connectTimeout bounds the connection to systemd, which normally takes
// milliseconds. D-Bus waits as long for an answer by default (25 s).
const connectTimeout = 25 * time.Second

// idleTime is how long a connection to systemd stays open after its last use.
const idleTime = 200 * time.Millisecond

// systemdConn connects to systemd through the system bus, and otherwise through its
// private socket, which needs root but no D-Bus daemon. Calls that follow one another
// share a connection, which is then closed.
type systemdConn struct {
	step  func(op, target string)
	dial  dialer
	limit time.Duration // of dial
	turn  chan struct{} // holds one value while a caller dials

	mu    sync.Mutex
	conn  *dbus.Conn
	users int
	idle  *time.Timer // closes conn
}

func newSystemdConn(step func(op, target string)) *systemdConn {
	limit := busTimeout
	if os.Geteuid() != 0 { // the private socket is root's
		limit = connectTimeout
	}
	return &systemdConn{step: step, dial: preferBus(limit, dialBus, dialPrivate(privateSocket)), limit: connectTimeout, turn: make(chan struct{}, 1)}
}

// busTimeout bounds the connection to the system bus. It is shorter than the limit of
// any call, so that the private socket is still tried.
const busTimeout = time.Second

// dialer dials a connection that lasts as long as ctx.
type dialer func(ctx context.Context) (*dbus.Conn, error)

// preferBus returns a dialer that uses private if bus fails, and no longer tries bus
// once it did not answer in time. The bus is preferred because it delivers only the
// signals that somebody asked for. To everybody who is connected to its private
// socket, systemd sends the signals of all units, after a reload hundreds of them: a
// fifth of a run's own CPU time went into them.
func preferBus(limit time.Duration, bus, private dialer) dialer {
	var silent atomic.Bool
	return func(ctx context.Context) (*dbus.Conn, error) {
		busErr := errSilentBus
		if !silent.Load() {
			var conn *dbus.Conn
			conn, busErr = dialFor(ctx, limit, bus)
			if busErr == nil {
				return conn, nil
			}
			silent.Store(ctx.Err() != nil || errors.Is(busErr, errSilentBus))
			if ctx.Err() != nil {
				return nil, busErr
			}
		}
		conn, err := private(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w; %w", busErr, err)
		}
		return conn, nil
	}
}

var errSilentBus = errors.New("the system bus does not answer")

// dialFor dials for at most limit; then it returns errSilentBus.
func dialFor(ctx context.Context, limit time.Duration, dial dialer) (*dbus.Conn, error) {
	lifetime, hangUp := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { hangUp(errSilentBus) })
	conn, err := dial(lifetime)
	inTime := timer.Stop()
	if inTime && err == nil {
		return conn, nil
	}
	if !inTime {
		err = errSilentBus
	}
	hangUp(nil)
	return nil, err
}

// dialBus connects to systemd through the system bus.
func dialBus(ctx context.Context) (*dbus.Conn, error) {
	bus, err := godbus.ConnectSystemBus(godbus.WithContext(ctx), godbus.WithAuth(asThisUser()))
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

// privateSocket is systemd's own socket.
const privateSocket = "/run/systemd/private"

// dialPrivate connects to systemd's socket.
func dialPrivate(socket string) dialer {
	return func(ctx context.Context) (*dbus.Conn, error) {
		private, err := godbus.Dial("unix:path="+socket, godbus.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		if err := private.Auth([]godbus.Auth{asThisUser()}); err != nil {
			private.Close()
			return nil, err
		}
		return newConn(private)
	}
}

// asThisUser authenticates by the user whom the kernel knows.
func asThisUser() godbus.Auth { return godbus.AuthExternal(strconv.Itoa(os.Getuid())) }

// newConn uses one connection for calls and for signals, because no signal is read
// here. go-systemd would make two.
func newConn(conn *godbus.Conn) (*dbus.Conn, error) {
	systemd, err := dbus.NewConnection(func() (*godbus.Conn, error) { return conn, nil })
	if err == nil && !systemd.Connected() {
		err = godbus.ErrClosed
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return systemd, nil
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

// drop closes a connection that was lost, so that no caller gets it again.
func (s *systemdConn) drop(lost *dbus.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == lost {
		s.conn.Close()
		s.conn = nil
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

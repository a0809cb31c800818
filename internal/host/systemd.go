package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// UnitState is a unit's state.
type UnitState struct {
	Load        string    // loaded, not-found, masked, …
	Active      string    // active, inactive, failed, activating, …
	FileState   string    // enabled, disabled, static, …; "" if there is no unit file
	Result      string    // success, exit-code, …: how it last ended
	Since       time.Time // when it last became active
	NeedsReload bool      // its unit file changed since systemd loaded it
}

// Systemd controls the machine's units. Start, Stop, Restart and Reload queue a
// job and return without waiting for it: a unit that waits for a unit ordered
// after itself would wait forever. Callers poll Unit instead.
type Systemd interface {
	Unit(ctx context.Context, name string) (UnitState, error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	Restart(ctx context.Context, name string) error
	// Reload makes the unit's service read its configuration again
	// (ExecReload).
	Reload(ctx context.Context, name string) error
	// Enable and Disable change what the next boot starts. Until a DaemonReload,
	// systemd (255 and later) reports NeedsReload for every unit.
	Enable(ctx context.Context, names ...string) error
	Disable(ctx context.Context, names ...string) error
	// DaemonReload makes systemd read changed unit files.
	DaemonReload(ctx context.Context) error
	// Property reads one property of a unit of the given type (Service, …).
	Property(ctx context.Context, unit, kind, property string) (any, error)
}

// systemdTimeout bounds one call to systemd. A reload of a large configuration
// takes several seconds.
const systemdTimeout = 90 * time.Second

// limited calls do with a connection to systemd, at most as long as
// systemdTimeout. action completes "cannot …".
func (s *systemdConn) limited(ctx context.Context, action string, do func(context.Context, *dbus.Conn) error) error {
	return WithLimit(ctx, systemdTimeout, action, func(ctx context.Context) error {
		conn, err := s.connect(ctx)
		if err != nil {
			return err
		}
		defer s.release()
		if err := do(ctx, conn); err != nil {
			if isLost(err) {
				s.drop(conn)
			}
			return fmt.Errorf("cannot %s: %w", action, err)
		}
		return nil
	})
}

// query is limited for calls that change nothing. It repeats them once if the
// connection was lost, as when D-Bus is restarted.
func (s *systemdConn) query(ctx context.Context, action string, do func(context.Context, *dbus.Conn) error) error {
	err := s.limited(ctx, action, do)
	if isLost(err) {
		err = s.limited(ctx, action, do)
	}
	return err
}

// isLost reports whether err means that the connection was closed.
func isLost(err error) bool {
	return errors.Is(err, godbus.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (s *systemdConn) Unit(ctx context.Context, name string) (UnitState, error) {
	var props map[string]any
	result := ""
	err := s.query(ctx, "query systemd for "+name, func(ctx context.Context, conn *dbus.Conn) (err error) {
		// A service has 300 properties more.
		if props, err = conn.GetUnitPropertiesContext(ctx, name); err != nil {
			return err
		}
		if kind, ends := resultOf[path.Ext(name)]; ends {
			p, err := conn.GetUnitTypePropertyContext(ctx, name, kind, "Result")
			if err != nil {
				return err
			}
			result, _ = p.Value.Value().(string)
		}
		return nil
	})
	if err != nil {
		return UnitState{}, err
	}
	text := func(key string) string { v, _ := props[key].(string); return v }
	state := UnitState{
		Load: text("LoadState"), Active: text("ActiveState"),
		FileState: text("UnitFileState"), Result: result,
	}
	state.NeedsReload, _ = props["NeedDaemonReload"].(bool)
	if usec, ok := props["ActiveEnterTimestamp"].(uint64); ok && usec > 0 {
		state.Since = time.UnixMicro(int64(usec)) //nolint:gosec // microseconds since 1970 fit
	}
	return state, nil
}

// resultOf has the D-Bus interface with the property Result for the kinds of units
// that are queried here and have one.
var resultOf = map[string]string{".service": "Service", ".socket": "Socket", ".timer": "Timer", ".mount": "Mount"}

func (s *systemdConn) Property(ctx context.Context, unit, kind, property string) (value any, err error) {
	err = s.query(ctx, "query systemd for "+property+" of "+unit, func(ctx context.Context, conn *dbus.Conn) error {
		p, err := conn.GetUnitTypePropertyContext(ctx, unit, kind, property)
		if err == nil {
			value = p.Value.Value()
		}
		return err
	})
	return value, err
}

// job queues one job and does not wait for it.
func (s *systemdConn) job(ctx context.Context, verb, name string,
	queue func(context.Context, *dbus.Conn) (int, error),
) error {
	s.step("unit", verb+" "+name)
	return s.limited(ctx, verb+" "+name, func(ctx context.Context, conn *dbus.Conn) error {
		_, err := queue(ctx, conn)
		return err
	})
}

func (s *systemdConn) Start(ctx context.Context, name string) error {
	return s.job(ctx, "start", name, func(ctx context.Context, c *dbus.Conn) (int, error) {
		return c.StartUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Stop(ctx context.Context, name string) error {
	return s.job(ctx, "stop", name, func(ctx context.Context, c *dbus.Conn) (int, error) {
		return c.StopUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Restart(ctx context.Context, name string) error {
	return s.job(ctx, "restart", name, func(ctx context.Context, c *dbus.Conn) (int, error) {
		return c.RestartUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Reload(ctx context.Context, name string) error {
	return s.job(ctx, "reload", name, func(ctx context.Context, c *dbus.Conn) (int, error) {
		return c.ReloadUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Enable(ctx context.Context, names ...string) error {
	s.step("unit", fmt.Sprintf("enable %v", names))
	return s.limited(ctx, fmt.Sprintf("enable %v", names), func(ctx context.Context, conn *dbus.Conn) error {
		_, _, err := conn.EnableUnitFilesContext(ctx, slices.Clone(names), false, false)
		return err
	})
}

func (s *systemdConn) Disable(ctx context.Context, names ...string) error {
	s.step("unit", fmt.Sprintf("disable %v", names))
	return s.limited(ctx, fmt.Sprintf("disable %v", names), func(ctx context.Context, conn *dbus.Conn) error {
		_, err := conn.DisableUnitFilesContext(ctx, slices.Clone(names), false)
		return err
	})
}

func (s *systemdConn) DaemonReload(ctx context.Context) error {
	s.step("unit", "daemon-reload")
	defer s.hangUp() // on its own socket, systemd then sends signals of every unit
	return s.limited(ctx, "reload systemd's unit files", func(ctx context.Context, conn *dbus.Conn) error {
		return conn.ReloadContext(ctx)
	})
}

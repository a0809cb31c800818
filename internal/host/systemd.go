package host

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// UnitState is what systemd knows of a unit.
type UnitState struct {
	Load        string    // loaded, not-found, masked, …
	Active      string    // active, inactive, failed, activating, …
	FileState   string    // enabled, disabled, static, …; "" if there is no file
	Result      string    // success, exit-code, …: how it ended last
	Since       time.Time // of the last start of being active
	NeedsReload bool      // its file is newer than what systemd has loaded
}

// Systemd drives the machine's units. Starting and stopping only queues the
// job and returns: a unit that waits for a unit ordered after itself would wait
// for ever, so callers poll Unit instead.
type Systemd interface {
	Unit(ctx context.Context, name string) (UnitState, error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	Restart(ctx context.Context, name string) error
	// Reload makes the unit read its configuration anew (ExecReload).
	Reload(ctx context.Context, name string) error
	Enable(ctx context.Context, names ...string) error
	Disable(ctx context.Context, names ...string) error
	// DaemonReload makes systemd read changed unit files.
	DaemonReload(ctx context.Context) error
	// Property reads one property of a unit of the given type (Service, …).
	Property(ctx context.Context, unit, kind, property string) (any, error)
}

// systemdConn reaches systemd through its private socket, so that it works as
// root without a D-Bus daemon; elsewhere through the system bus.
type systemdConn struct {
	mu   sync.Mutex
	conn *dbus.Conn
	step func(op, target string)
}

func (s *systemdConn) connect(ctx context.Context) (*dbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	// The connection must outlive this call's deadline.
	conn, err := dbus.NewSystemdConnectionContext(context.WithoutCancel(ctx))
	if err != nil {
		if conn, err = dbus.NewSystemConnectionContext(context.WithoutCancel(ctx)); err != nil {
			return nil, fmt.Errorf("cannot reach systemd: %w", err)
		}
	}
	s.conn = conn
	return conn, nil
}

func (s *systemdConn) Unit(ctx context.Context, name string) (UnitState, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return UnitState{}, err
	}
	props, err := conn.GetAllPropertiesContext(ctx, name)
	if err != nil {
		return UnitState{}, fmt.Errorf("cannot ask systemd for %s: %w", name, err)
	}
	text := func(key string) string { v, _ := props[key].(string); return v }
	state := UnitState{
		Load: text("LoadState"), Active: text("ActiveState"),
		FileState: text("UnitFileState"), Result: text("Result"),
	}
	state.NeedsReload, _ = props["NeedDaemonReload"].(bool)
	if usec, ok := props["ActiveEnterTimestamp"].(uint64); ok && usec > 0 {
		state.Since = time.UnixMicro(int64(usec)) //nolint:gosec // microseconds since 1970 fit
	}
	return state, nil
}

func (s *systemdConn) Property(ctx context.Context, unit, kind, property string) (any, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	p, err := conn.GetUnitTypePropertyContext(ctx, unit, kind, property)
	if err != nil {
		return nil, fmt.Errorf("cannot ask systemd for %s of %s: %w", property, unit, err)
	}
	return p.Value.Value(), nil
}

// job queues one job and does not wait for its end.
func (s *systemdConn) job(ctx context.Context, verb, name string,
	queue func(*dbus.Conn) (int, error),
) error {
	s.step("unit", verb+" "+name)
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := queue(conn); err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	return nil
}

func (s *systemdConn) Start(ctx context.Context, name string) error {
	return s.job(ctx, "start", name, func(c *dbus.Conn) (int, error) {
		return c.StartUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Stop(ctx context.Context, name string) error {
	return s.job(ctx, "stop", name, func(c *dbus.Conn) (int, error) {
		return c.StopUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Restart(ctx context.Context, name string) error {
	return s.job(ctx, "restart", name, func(c *dbus.Conn) (int, error) {
		return c.RestartUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Reload(ctx context.Context, name string) error {
	return s.job(ctx, "reload", name, func(c *dbus.Conn) (int, error) {
		return c.ReloadUnitContext(ctx, name, "replace", nil)
	})
}

func (s *systemdConn) Enable(ctx context.Context, names ...string) error {
	s.step("unit", fmt.Sprintf("enable %v", names))
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if _, _, err := conn.EnableUnitFilesContext(ctx, slices.Clone(names), false, false); err != nil {
		return fmt.Errorf("cannot enable %v: %w", names, err)
	}
	return s.DaemonReload(ctx)
}

func (s *systemdConn) Disable(ctx context.Context, names ...string) error {
	s.step("unit", fmt.Sprintf("disable %v", names))
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.DisableUnitFilesContext(ctx, slices.Clone(names), false); err != nil {
		return fmt.Errorf("cannot disable %v: %w", names, err)
	}
	return s.DaemonReload(ctx)
}

func (s *systemdConn) DaemonReload(ctx context.Context) error {
	s.step("unit", "daemon-reload")
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot make systemd read its unit files: %w", err)
	}
	return nil
}

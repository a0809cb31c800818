package stages

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// checkService adds a difference unless a unit of firstboot is enabled and active,
// as systemd has read it.
func (e *Env) checkService(ctx context.Context, name string, f *engine.CheckResult) error {
	unit, err := e.Host.Systemd().Unit(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case unit.Load == "not-found":
		f.Add(engine.Difference{Object: name, Actual: "no such unit", Expected: "enabled and active"})
		return nil
	case unit.FileState != "enabled":
		f.Add(engine.Difference{Object: name, Actual: orNone(unit.FileState), Expected: "enabled"})
	}
	if unit.Active != "active" {
		f.Add(engine.Difference{Object: name, Actual: e.unitState(ctx, name, unit), Expected: "active", Fix: "journalctl -u " + strings.TrimSuffix(name, ".service")})
	}
	return nil
}

// checkNoService adds a difference if a unit of firstboot is enabled or active,
// which this host does not need.
func (e *Env) checkNoService(ctx context.Context, name string, f *engine.CheckResult) error {
	unit, err := e.Host.Systemd().Unit(ctx, name)
	if err != nil {
		return err
	}
	if unit.FileState == "enabled" || unit.Active == "active" {
		f.Add(engine.Difference{Object: name, Actual: unit.FileState + ", " + unit.Active, Expected: "disabled and stopped"})
	}
	return nil
}

// startServices makes units of firstboot enabled and active, in order. It writes
// the file of a unit that no package or image brought. The caller waits until the
// services answer.
func (e *Env) startServices(ctx context.Context, names ...string) error {
	systemd := e.Host.Systemd()
	written := false
	var disabled []string
	for _, name := range names {
		unit, err := systemd.Unit(ctx, name)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		if unit.Load == "not-found" {
			if err := e.writeUnit(name); err != nil {
				return err
			}
			written = true
		}
		if unit.FileState != "enabled" {
			disabled = append(disabled, name)
		}
	}
	// A reload of systemd takes seconds on a slow machine. Enable includes one.
	var err error
	switch {
	case len(disabled) > 0:
		err = systemd.Enable(ctx, disabled...)
	case written:
		err = systemd.DaemonReload(ctx)
	}
	if err != nil {
		return &engine.Retry{Err: err}
	}
	for _, name := range names {
		unit, err := systemd.Unit(ctx, name)
		if err == nil && unit.Active != "active" {
			err = systemd.Start(ctx, name)
		}
		if err != nil {
			return &engine.Retry{Err: err}
		}
	}
	return nil
}

// stopServices disables and stops units of firstboot, in order.
func (e *Env) stopServices(ctx context.Context, names ...string) error {
	systemd := e.Host.Systemd()
	for _, name := range names {
		unit, err := systemd.Unit(ctx, name)
		if err == nil && unit.FileState == "enabled" {
			err = systemd.Disable(ctx, name)
		}
		if err == nil && unit.Active == "active" {
			err = systemd.Stop(ctx, name)
		}
		if err != nil {
			return &engine.Retry{Err: err}
		}
	}
	return nil
}

// writeUnit writes the file of a unit of firstboot.
func (e *Env) writeUnit(name string) error {
	for _, f := range units.HostFiles() {
		if path.Base(f.Path) == name {
			return e.Host.WriteFile(units.AdminDir+"/"+name, f.Data, 0o644)
		}
	}
	return fmt.Errorf("cannot write %s: it is not a unit of firstboot", name)
}

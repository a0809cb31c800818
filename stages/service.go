package stages

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync/atomic"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
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
		}
		if unit.FileState != "enabled" {
			disabled = append(disabled, name)
		}
	}
	if err := e.enable(ctx, disabled...); err != nil {
		return err
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
	return e.settle(ctx)
}

// stopServices disables and stops units of firstboot, in order.
func (e *Env) stopServices(ctx context.Context, names ...string) error {
	systemd := e.Host.Systemd()
	for _, name := range names {
		unit, err := systemd.Unit(ctx, name)
		if err == nil && unit.FileState == "enabled" {
			err = e.changeUnits(func() error { return systemd.Disable(ctx, name) })
		}
		if err == nil && unit.Active == "active" {
			err = systemd.Stop(ctx, name)
		}
		if err != nil {
			return &engine.Retry{Err: err}
		}
	}
	return e.settle(ctx)
}

// unitChanges counts what enables or disables units, so that systemd's unit files
// are read again once for several stages: that takes a second on a slow machine.
type unitChanges struct{ began, ended, read atomic.Int64 }

// settled reports whether systemd has read all changes.
func (c *unitChanges) settled() bool { return c.read.Load() == c.began.Load() }

// changeUnits calls change, which enables or disables units. The caller calls settle
// later.
func (e *Env) changeUnits(change func() error) error {
	e.changes.began.Add(1)
	defer e.changes.ended.Add(1)
	return change()
}

// enable enables units, whose files the caller has written. systemd reads them again if
// it may have read others before. It loads any other unit when that starts. The caller
// starts the units and then calls settle.
func (e *Env) enable(ctx context.Context, names ...string) error {
	changed := false
	for _, name := range names {
		unit, err := e.unit(ctx, name)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		changed = changed || unit.NeedsReload || e.Notes.Notes().IsOutdated(name, unit.Since)
	}
	if changed {
		if err := e.reloadUnits(ctx); err != nil {
			return &engine.Retry{Err: err}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return retryIf(e.changeUnits(func() error { return e.Host.Systemd().Enable(ctx, names...) }))
}

// settle makes systemd read unit files again if this run enabled or disabled a unit
// since it last did.
func (e *Env) settle(ctx context.Context) error {
	if e.changes.read.Load() == e.changes.ended.Load() {
		return nil
	}
	return retryIf(e.reloadUnits(ctx))
}

func (e *Env) reloadUnits(ctx context.Context) error {
	changes := e.changes.ended.Load()
	err := e.Host.Systemd().DaemonReload(ctx)
	if err == nil {
		e.changes.read.Store(changes)
	}
	return err
}

// unit queries systemd for a unit. From when a stage enables a unit until systemd has
// read that, systemd says of every unit that it must be read again: then the answer
// does not count.
func (e *Env) unit(ctx context.Context, name string) (host.UnitState, error) {
	began, settled := e.changes.began.Load(), e.changes.settled()
	unit, err := e.Host.Systemd().Unit(ctx, name)
	if !settled || !e.changes.settled() || e.changes.began.Load() != began {
		unit.NeedsReload = false
	}
	return unit, err
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

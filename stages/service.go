package stages

import (
	"context"
	"fmt"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

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
func (e *Env) startServices(ctx context.Context, names ...string) (err error) {
	defer e.settle(ctx, &err)
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
	return nil
}

// stopServices disables and stops units of firstboot, in order.
func (e *Env) stopServices(ctx context.Context, names ...string) (err error) {
	disabled := false
	defer func() {
		if disabled {
			e.settle(ctx, &err)
		}
	}()
	systemd := e.Host.Systemd()
	for _, name := range names {
		unit, err := systemd.Unit(ctx, name)
		if err == nil && unit.FileState == "enabled" {
			disabled = true
			err = e.changeUnits(func() error { return systemd.Disable(ctx, name) })
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

// unitChanges are the changes of unit files by this run, so that systemd reads them
// once for several stages: that takes a second on a slow machine.
type unitChanges struct {
	mu                 sync.Mutex
	began, ended, read int // changes; those that systemd has read
	// stale has the units whose earlier files systemd has read, with the number of
	// changes that had ended when their files were written.
	stale map[string]int
}

// settled reports whether systemd has read all changes, and how many began.
func (c *unitChanges) settled() (settled bool, began int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read == c.began, c.began
}

// changeUnits calls change, which changes unit files or enables or disables units. The
// caller calls settle later.
func (e *Env) changeUnits(change func() error) error {
	count := func(n *int) {
		e.changes.mu.Lock()
		defer e.changes.mu.Unlock()
		*n++
	}
	count(&e.changes.began)
	defer count(&e.changes.ended)
	return change()
}

// noteStale notes that systemd has read earlier files of a unit. It is called after
// the new ones are written: a reload that began before may not have read them.
func (c *unitChanges) noteStale(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale == nil {
		c.stale = map[string]int{}
	}
	c.stale[name] = c.ended
}

func (c *unitChanges) isStale(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, stale := c.stale[name]
	return stale
}

// beginReload returns the number of changes that a reload reads which begins now.
func (c *unitChanges) beginReload() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// endReload records that systemd has read that many changes.
func (c *unitChanges) endReload(changes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = max(c.read, changes)
	maps.DeleteFunc(c.stale, func(_ string, written int) bool { return written <= changes })
}

// enable enables units, whose files the caller has written. If systemd has read an
// earlier version of a unit, it reads unit files again first. A unit that it does not
// know is read when it starts. The caller starts the units and then calls settle.
func (e *Env) enable(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	stale := false
	for _, name := range names {
		unit, err := e.unit(ctx, name)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		stale = stale || unit.NeedsReload || e.changes.isStale(name)
	}
	if stale {
		if err := e.reloadUnits(ctx); err != nil {
			return &engine.Retry{Err: err}
		}
	}
	return retryIf(e.changeUnits(func() error { return e.Host.Systemd().Enable(ctx, names...) }))
}

// settleTimeout bounds the reload at the end of a stage, which an end of the run does
// not interrupt.
const settleTimeout = 30 * time.Second

// settle makes systemd read unit files again if this run changed some since it last
// did. It is called also after an error, whose place err is: systemd 255 and later
// would report NeedsReload for every unit.
func (e *Env) settle(ctx context.Context, err *error) {
	if settled, _ := e.changes.settled(); settled {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	failed := e.reloadUnits(ctx)
	if *err == nil {
		*err = retryIf(failed)
	}
}

func (e *Env) reloadUnits(ctx context.Context) error {
	changes := e.changes.beginReload()
	err := e.Host.Systemd().DaemonReload(ctx)
	if err == nil {
		e.changes.endReload(changes)
	}
	return err
}

// unit queries systemd for a unit. Between a change of a unit and the next reload,
// systemd 255 and later report NeedsReload for every unit, so it is ignored then.
func (e *Env) unit(ctx context.Context, name string) (host.UnitState, error) {
	before, began := e.changes.settled()
	unit, err := e.Host.Systemd().Unit(ctx, name)
	after, again := e.changes.settled()
	if !before || !after || began != again {
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

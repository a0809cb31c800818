package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// PlanLeave checks what leave would change. It changes nothing.
func PlanLeave(ctx context.Context, o Options, force bool) (report.Checks, error) {
	m, loaded, err := openSaved(ctx, o)
	if err != nil {
		return report.Checks{}, err
	}
	set, err := m.build(m.openHost(), loaded.Config, report.ReadOnlyNotes{})
	if err != nil {
		return report.Checks{}, err
	}
	return m.checks(newMask(m.state, loaded.Config), engine.CheckAll(ctx, set.Leave(force), checkTimeout)), nil
}

// openSaved opens the machine and loads its configuration, saved if possible.
func openSaved(ctx context.Context, o Options) (*machine, *config.Loaded, error) {
	m, err := open(o)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := m.effective(ctx, false)
	return m, loaded, err
}

// Leave takes this host out of its network. With Force it does so even if
// containers lose their network. If it is interrupted, the next Leave continues.
// Failures are printed to Err; the error is for ExitCode.
func Leave(ctx context.Context, o RunOptions) error {
	m, loaded, err := openSaved(ctx, o.Options)
	if err != nil {
		return err
	}
	lock, err := state.AcquireLock(m.state)
	if err != nil {
		return err
	}
	defer lock.Release()
	h, mask := m.openHost(), newMask(m.state, loaded.Config)
	set, err := m.build(h, loaded.Config, report.ReadOnlyNotes{})
	if err != nil {
		return err
	}
	steps, began := set.Leave(o.Force), time.Now()
	console := report.NewConsole(o.Out, o.Terminal, engine.Names(steps))
	options := o.Engine
	options.Events = mask.events(console.Event)
	err = mask.runError(m.leave(ctx, steps, options))
	if err == nil {
		console.Printf("this host has left the network, %s; to join again: systemctl enable --now %s %s", report.Elapsed(time.Since(began)), units.Service, units.Target)
	}
	console.Close()
	return m.reportLeaveError(o, err)
}

// leave runs the first step, which may refuse, before anything is changed. Then
// it retires the marker and runs the other steps.
func (m *machine) leave(ctx context.Context, steps []engine.Stage, options engine.Options) error {
	if err := engine.Run(ctx, steps[:1], options); err != nil {
		return err
	}
	if err := m.recordLeave("this host is leaving the network"); err != nil {
		return err
	}
	if err := engine.Run(ctx, steps[1:], options); err != nil {
		return err
	}
	return m.recordLeave("this host has left the network")
}

// recordLeave retires the marker and writes a journal that states, with text,
// that this host has not joined.
func (m *machine) recordLeave(text string) error {
	if _, found, err := state.LoadMarker(m.state); err != nil || found {
		if err := errors.Join(err, state.RetireMarker(m.state)); err != nil {
			return fmt.Errorf("cannot retire the completion marker: %w", withStateHint(err))
		}
	}
	now := time.Now().UTC()
	j := state.Journal{
		State: state.NotStarted, Version: m.Version, Machine: m.identity, BootID: m.state.BootID(),
		Started: now, Finished: now, Error: text,
	}
	for _, name := range m.stageNames() {
		j.Stage(name)
	}
	return j.Save(m.state)
}

// reportLeaveError prints why leave failed.
func (m *machine) reportLeaveError(o RunOptions, err error) error {
	var run *engine.Error
	switch {
	case err == nil:
		return nil
	case interrupted(err):
		fmt.Fprintln(o.Err, "firstboot: interrupted; firstboot leave continues from here")
		return &ReportedError{ExitInterrupted}
	case !errors.As(err, &run):
		return err
	}
	st := state.Failed
	advice := report.Advice{Next: "this host has left only in part; nothing continues by itself", Type: []report.Command{{Line: "firstboot leave"}}}
	if refused(err) {
		st = state.Refused
		advice = report.Advice{Next: "nothing was changed", Type: []report.Command{{Line: "firstboot leave", When: "after the fix"}}}
	}
	report.WriteFailure(o.Err, st, err, advice, 0)
	return &ReportedError{ExitCode(err)}
}

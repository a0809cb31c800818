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
	m, err := open(o.Options)
	if err != nil {
		return err
	}
	lock, err := state.AcquireLock(m.state, state.CommandLeave)
	if err != nil {
		return withStateHint(err)
	}
	defer lock.Release()
	printf := func(format string, args ...any) { fmt.Fprintf(o.Out, "firstboot: "+format+"\n", args...) }
	if err := m.records.Recover(time.Now(), printf); err != nil {
		return withStateHint(err)
	}
	loaded, err := m.effective(ctx, false)
	if err != nil {
		return err
	}
	j, _, err := state.LoadJournal(m.state)
	if err != nil {
		return withStateHint(err)
	}
	set, err := m.build(m.openHost(), loaded.Config, report.ReadOnlyNotes{Journal: j})
	if err != nil {
		return err
	}
	steps, mask := set.Leave(o.Force), newMask(m.state, loaded.Config)
	l := &leave{machine: m, o: o, steps: steps, began: time.Now(), console: report.NewConsole(o.Out, o.Terminal, engine.Names(steps))}
	l.options = o.Engine
	l.options.Events = mask.events(report.Tee(l.changes.Event, l.console.Event))
	err = mask.runError(l.execute(ctx))
	l.console.Close()
	return l.reportError(err)
}

// leave is one leave. It holds the lock.
type leave struct {
	*machine
	o       RunOptions
	steps   []engine.Stage
	options engine.Options
	console *report.Console
	began   time.Time
	changes changes
	started bool // the state of the host has changed
}

// execute runs the first step, which may refuse, before anything is changed. Then
// it records that this host is leaving and runs the other steps.
func (l *leave) execute(ctx context.Context) error {
	if err := engine.Run(ctx, l.steps[:1], l.options); err != nil {
		return err
	}
	leaving, err := l.records.StartLeave(time.Now())
	if err != nil {
		return withStateHint(err)
	}
	l.started = true
	printSetAside(l.console.Printf, leaving.Damaged())
	if err := engine.Run(ctx, l.steps[1:], l.options); err != nil {
		return l.cancel(leaving, err)
	}
	if err := leaving.Finish(time.Now(), l.Version, l.state.BootID(), l.stageNames()); err != nil {
		return engine.WithHint(err, "is the disk full? see df -h %s; then run firstboot leave again", state.Dir)
	}
	if err := (report.BootMessages{State: l.state, Machine: l.state}).Clear(); err != nil {
		l.console.Printf("warning: cannot remove the message of an earlier failure from the login screen: %v", err)
	}
	l.console.Printf("this host has left the network, %s; to join again: %s", report.Elapsed(time.Since(l.began)), report.JoinCommand)
	return nil
}

// cancel returns the host to its former state if no step has changed anything.
func (l *leave) cancel(leaving *state.Leave, err error) error {
	if l.changes.any() {
		return err
	}
	canceled, cancelErr := leaving.Cancel()
	l.started = !canceled
	return errors.Join(err, cancelErr)
}

// reportError prints why leave failed.
func (l *leave) reportError(err error) error {
	next := report.Advice{Next: "this host has only partly left the network; nothing continues by itself", Type: []report.Command{{Line: "firstboot leave"}}}
	if !l.started {
		next = report.Advice{Next: "nothing was changed", Type: []report.Command{{Line: "firstboot leave", When: "after the fix"}}}
	}
	var run *engine.Error
	switch {
	case err == nil:
		return nil
	case interrupted(err):
		text := "nothing was changed"
		if l.started {
			text = "firstboot leave continues from here"
		}
		fmt.Fprintln(l.o.Err, "firstboot: interrupted; "+text)
		return &ReportedError{ExitInterrupted}
	case !errors.As(err, &run):
		return err
	}
	st := state.Failed
	if refused(err) {
		st = state.Refused
	}
	report.WriteFailure(l.o.Err, st, err, next, time.Since(l.began))
	return &ReportedError{ExitCode(err)}
}

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

// PlanLeave is what leaving would change, by the checks alone.
func PlanLeave(ctx context.Context, o Options, force bool) (report.Checks, error) {
	s, loaded, err := openToLeave(ctx, o)
	if err != nil {
		return report.Checks{}, err
	}
	work, err := s.build(s.host(), loaded.Config, report.ReadOnlyNotes{})
	if err != nil {
		return report.Checks{}, err
	}
	return s.checks(newMask(s.state, loaded.Config), engine.CheckAll(ctx, work.Leave(force), statusCheck)), nil
}

func openToLeave(ctx context.Context, o Options) (*site, *config.Loaded, error) {
	s, err := open(o)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := s.effective(ctx, false)
	return s, loaded, err
}

// Leave takes this host out of its network: Force lets containers lose it.
// Like a run it can be cut off anywhere and is taken up by the next one. What
// went wrong is told on Err; the error is for ExitCode.
func Leave(ctx context.Context, o RunOptions) error {
	s, loaded, err := openToLeave(ctx, o.Options)
	if err != nil {
		return err
	}
	lock, err := state.AcquireLock(s.state)
	if err != nil {
		return err
	}
	defer lock.Release()
	machine, m := s.host(), newMask(s.state, loaded.Config)
	work, err := s.build(machine, loaded.Config, report.ReadOnlyNotes{})
	if err != nil {
		return err
	}
	steps, began := work.Leave(o.Force), time.Now()
	console := report.NewConsole(o.Out, o.Terminal, engine.Names(steps))
	options := o.Engine
	options.Events = m.events(console.Event)
	err = m.run(s.leave(ctx, steps, options))
	if err == nil {
		console.Printf("this host has left the network, %s; systemctl enable --now %s %s joins it again", report.Elapsed(time.Since(began)), units.Service, units.Target)
	}
	console.Close()
	return s.tellLeave(o, err)
}

// leave runs the first step, which refuses, before anything is changed; then
// the marker goes out of force, and then the rest follows.
func (s *site) leave(ctx context.Context, steps []engine.Stage, options engine.Options) error {
	if err := engine.Run(ctx, steps[:1], options); err != nil {
		return err
	}
	if err := s.noteLeft("this host is leaving the network"); err != nil {
		return err
	}
	if err := engine.Run(ctx, steps[1:], options); err != nil {
		return err
	}
	return s.noteLeft("this host has left the network")
}

// noteLeft makes the notes say that this host is no member (any more).
func (s *site) noteLeft(text string) error {
	if _, found, err := state.LoadMarker(s.state); err != nil || found {
		if err := errors.Join(err, state.RetireMarker(s.state)); err != nil {
			return fmt.Errorf("cannot put the completion marker out of force: %w", readable(err))
		}
	}
	now := time.Now().UTC()
	j := state.Journal{
		State: state.NotStarted, Version: s.Version, Machine: s.this, BootID: s.state.BootID(),
		Started: now, Finished: now, Error: text,
	}
	for _, name := range s.names() {
		j.Stage(name)
	}
	return j.Save(s.state)
}

// tellLeave says on Err why leaving ended.
func (s *site) tellLeave(o RunOptions, err error) error {
	var run *engine.Error
	switch {
	case err == nil:
		return nil
	case interrupted(err):
		fmt.Fprintln(o.Err, "firstboot: interrupted: firstboot leave goes on from here")
		return &ReportedError{ExitInterrupted}
	case !errors.As(err, &run):
		return err
	}
	st := state.Failed
	advice := report.Advice{Next: "the host is half out: nothing goes on by itself", Type: []string{"firstboot leave"}}
	if refused(err) {
		st = state.Refused
		advice = report.Advice{Next: "nothing was changed", Type: []string{"firstboot leave   (after the fix)"}}
	}
	report.WriteFailure(o.Err, st, err, advice, 0)
	return &ReportedError{ExitCode(err)}
}

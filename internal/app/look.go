package app

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// Plan is what a run would change, by the checks alone. fresh asks for the
// configuration as its files are now, as run --force would.
func Plan(ctx context.Context, o Options, fresh bool) (report.Checks, error) {
	s, err := open(o)
	if err != nil {
		return report.Checks{}, err
	}
	loaded, err := s.effective(ctx, fresh)
	if err != nil {
		return report.Checks{}, err
	}
	j, _, _ := state.LoadJournal(s.state) // there may be none yet
	results, err := s.check(ctx, loaded.Config, report.ReadOnlyNotes{Journal: j})
	if err != nil {
		return report.Checks{}, err
	}
	return s.checks(newMask(s.state, loaded.Config), results), nil
}

// checks makes results fit to be shown. What a folder cannot tell about a
// machine is left out.
func (s *site) checks(m mask, results []engine.Result) report.Checks {
	var checks report.Checks
	for i, r := range results {
		r.Check, r.Err = m.finding(r.Check), m.err(r.Err)
		if errors.Is(results[i].Err, host.ErrOffline) || results[i].Err != nil && !s.looksAlive() {
			r.Err = host.ErrOffline
		}
		checks.Add(r)
	}
	return checks
}

// Verify makes every check of every stage now, tests that start a container
// included. It needs a machine on which no run is under way.
func Verify(ctx context.Context, o Options) (report.Checks, error) {
	s, err := open(o)
	if err != nil {
		return report.Checks{}, err
	}
	if pid, held := state.LockHolder(s.state); held {
		return report.Checks{}, &state.LockHeldError{PID: pid}
	}
	loaded, err := s.effective(ctx, false)
	if err != nil {
		return report.Checks{}, err
	}
	j, _, err := state.LoadJournal(s.state)
	if err != nil {
		return report.Checks{}, readable(err)
	}
	work, err := s.build(s.host(), loaded.Config, &scratch{notes: j.Notes})
	if err != nil {
		return report.Checks{}, err
	}
	results := engine.CheckAll(ctx, work.Stages, statusCheck)
	for i, stage := range work.Stages {
		if p, ok := stage.(Prober); ok {
			probe(ctx, p, &results[i])
		}
	}
	if ctx.Err() != nil {
		return report.Checks{}, context.Cause(ctx)
	}
	return s.checks(newMask(s.state, loaded.Config), results), nil
}

// probe makes a stage's test anew. Its result replaces the check's, which only
// tells of the test before.
func probe(ctx context.Context, p Prober, result *engine.Result) {
	err := p.Probe(ctx)
	var wait *engine.Wait
	switch {
	case err == nil:
		result.Check.Differences, result.Err = nil, nil
	case errors.As(err, &wait), ctx.Err() != nil:
		result.Check.Differences, result.Err = nil, err
	default:
		result.Err = nil
		result.Check.Differences = []engine.Difference{{Object: result.Stage, Actual: err.Error(), Fix: engine.Hint(err)}}
	}
}

// scratch keeps notes for as long as a command runs.
type scratch struct {
	mu    sync.Mutex
	notes state.Notes
}

func (s *scratch) Notes() state.Notes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes
}

func (s *scratch) SetNotes(change func(*state.Notes)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.notes)
	return nil
}

// Validate loads the sources, or the named files, and says what is wrong with
// them; the error is a config.Problems where it is about what they say.
func Validate(ctx context.Context, o Options) ([]string, error) {
	s := &site{Options: o}
	loaded, err := s.load(ctx, nil)
	if err != nil {
		return nil, err
	}
	warnings := make([]string, len(loaded.Warnings))
	for i, w := range loaded.Warnings {
		warnings[i] = fmt.Sprint(w)
	}
	return warnings, nil
}

package app

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// Plan checks what a run would change. It changes nothing. With fresh it reads
// the configuration files again, as run --force does.
func Plan(ctx context.Context, o Options, fresh bool) (report.Checks, error) {
	m, err := open(o)
	if err != nil {
		return report.Checks{}, err
	}
	loaded, err := m.effective(ctx, fresh)
	if err != nil {
		return report.Checks{}, err
	}
	j, _, _ := state.LoadJournal(m.state) // it may not exist yet
	if fresh {
		j.Notes.Network = state.Network{Again: true} // as run --force does
		j.Notes.ForgetDigests()
	}
	results, network, err := m.checkStages(ctx, loaded.Config, report.ReadOnlyNotes{Journal: j})
	if err != nil {
		return report.Checks{}, err
	}
	mask := newMask(m.state, loaded.Config)
	checks := m.checks(mask, results)
	checks.Notes, checks.Network = upgradeNotes(loaded), mask.Text(network)
	return checks, nil
}

// checks converts results for output: secrets are masked, and below a root
// directory every error becomes host.ErrOffline, unless another user could read
// the file.
func (m *machine) checks(mask mask, results []engine.Result) report.Checks {
	var checks report.Checks
	for i, r := range results {
		r.Check, r.Err = mask.checkResult(r.Check), mask.err(r.Err)
		offline := errors.Is(results[i].Err, host.ErrOffline) || results[i].Err != nil && !m.checkable()
		switch {
		case errors.Is(results[i].Err, fs.ErrPermission):
			r.Err = withStateHint(r.Err)
		case offline:
			r.Err = host.ErrOffline
		}
		checks.Add(r)
	}
	return checks
}

// Verify checks every stage and repeats the tests that start a container. It
// holds the lock: a run's probe container has the same name.
func Verify(ctx context.Context, o Options) (report.Checks, error) {
	m, err := open(o)
	if err != nil {
		return report.Checks{}, err
	}
	lock, err := state.AcquireLock(m.state, state.CommandVerify)
	if err != nil {
		return report.Checks{}, withStateHint(err)
	}
	defer lock.Release()
	loaded, err := m.effective(ctx, false)
	if err != nil {
		return report.Checks{}, err
	}
	// Without notes the checks report what they miss.
	j, _, err := state.LoadJournal(m.state)
	var damaged *state.DamagedError
	if err != nil && !errors.As(err, &damaged) {
		return report.Checks{}, withStateHint(err)
	}
	j.Notes.ForgetDigests()
	set, err := m.build(m.openHost(), loaded.Config, &temporaryNotes{notes: j.Notes})
	if err != nil {
		return report.Checks{}, err
	}
	results := engine.CheckAll(ctx, set.Stages, checkTimeout)
	for i, stage := range set.Stages {
		if p, ok := stage.(Prober); ok {
			probe(ctx, p, &results[i])
		}
	}
	if ctx.Err() != nil {
		return report.Checks{}, context.Cause(ctx)
	}
	return m.checks(newMask(m.state, loaded.Config), results), nil
}

// probe repeats the test of a stage. Its result replaces that of the check,
// which only reads the record of an earlier test.
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

// temporaryNotes are notes that are discarded at the end of a command.
type temporaryNotes struct {
	mu    sync.Mutex
	notes state.Notes
}

// Notes returns the notes.
func (n *temporaryNotes) Notes() state.Notes {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notes
}

// SetNotes changes the notes.
func (n *temporaryNotes) SetNotes(change func(*state.Notes)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.notes)
	return nil
}

// Validate loads the sources or the named files. The error is a config.Problems
// if the configuration is invalid.
func Validate(ctx context.Context, o Options) (*config.Loaded, error) {
	return (&machine{Options: o}).loadLocal(ctx)
}

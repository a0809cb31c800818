package app

import (
	"context"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// checkTimeout limits the check of one stage in status, plan and verify, for
// example if etcd never answers. Nine checks in parallel took 25 s on an emulated
// machine with one busy processor.
const checkTimeout = 60 * time.Second

// inMemoryNote is printed on a live root whose changes are lost at a reboot.
const inMemoryNote = "this host runs from memory; it joins again at each boot"

// Status returns the state of the machine. On a complete host it checks every
// stage; otherwise it reads the records of the last run.
func Status(ctx context.Context, o Options) (report.Status, error) {
	m, err := open(o)
	if err != nil {
		return report.Status{}, err
	}
	status := m.recorded()
	if status.State == state.Complete {
		m.checkComplete(ctx, &status)
	}
	m.advise(&status)
	return status, nil
}

// RecordedStatus returns the status by the records alone. It checks no stage.
func RecordedStatus(o Options) (report.Status, error) {
	m, err := open(o)
	if err != nil {
		return report.Status{}, err
	}
	status := m.recorded()
	m.advise(&status)
	return status, nil
}

// advise adds notes and advice.
func (m *machine) advise(status *report.Status) {
	noStageStarted := len(status.Stages) > 0 && status.Stages[0].State == state.StagePending
	untouched := true
	for i, stage := range status.Stages {
		if stage.State == state.StageChanged || stage.State == state.StageFailed && i > 0 {
			untouched = false
		}
	}
	if status.State == state.Unknown && m.denied && m.checkable() {
		status.Notes = append(status.Notes, m.unitNote())
	}
	if m.state.RootInMemory() {
		status.Notes = append(status.Notes, inMemoryNote)
	}
	if !m.checkable() {
		status.Notes = append(status.Notes, "this status is from files only; no running machine was checked")
	}
	facts := report.Facts{
		Invalid: noStageStarted && status.State == state.Failed && status.ConfigDigest == "", Untouched: untouched,
		Disabled: !enabled(m.state), Failed: firstFailed(status.Stages),
	}
	if !m.checkable() {
		facts.Root = m.Root
	}
	if status.State == state.Left {
		facts.Disabled = !enabledByAdmin(m.state)
	}
	if status.Next == "" {
		status.Advice = report.Advise(status.State, facts)
	}
	if dir := lastSetAside(m.state); dir != "" {
		status.Notes = append(status.Notes, "the state of another machine was found here and set aside in "+dir)
	}
	// The other version may also be the reason for a drift.
	if version := status.Version; (status.State == state.Complete || status.State == state.Drifted) && version != m.Version {
		status.Notes = append(status.Notes, fmt.Sprintf(
			"this is firstboot %s, but %s completed this host; firstboot plan --force shows what this version would change, firstboot run --force applies it", m.Version, version))
	}
}

// firstFailed returns the name of the first stage that failed, or "".
func firstFailed(stages []report.StageStatus) string {
	for _, stage := range stages {
		if stage.State == state.StageFailed {
			return stage.Name
		}
	}
	return ""
}

// checkComplete checks a machine whose marker states that it is complete.
func (m *machine) checkComplete(ctx context.Context, status *report.Status) {
	if !m.checkable() {
		return
	}
	loaded, err := m.saved()
	switch {
	case err != nil:
		setUnknown(status, err)
		return
	case loaded == nil:
		setUnknown(status, engine.WithHint(fmt.Errorf("%s is missing: the configuration of this host is unknown", state.EffectivePath), readAgainHint))
		return
	}
	j, _, _ := state.LoadJournal(m.state) // without notes the checks report what they miss
	results, network, err := m.checkStages(ctx, loaded.Config, report.ReadOnlyNotes{Journal: j})
	if err != nil {
		setUnknown(status, err)
		return
	}
	status.Notes = append(status.Notes, upgradeNotes(loaded)...)
	if network != "" {
		status.Network = newMask(m.state, loaded.Config).Text(network)
	}
	status.State = applyResults(status, newMask(m.state, loaded.Config), results)
	change := m.configChange(ctx, loaded, j.ConfigFiles)
	if loaded.Digest != status.ConfigDigest {
		change = "configuration changed: the saved configuration is not the one that this host was completed with"
	}
	if change != "" {
		status.State, status.Error, status.Hint = state.Drifted, change, "firstboot run --force applies it"
	}
}

// checkStages checks every stage and returns the mode of the network as well.
func (m *machine) checkStages(ctx context.Context, cfg *config.Config, notes Notes) ([]engine.Result, string, error) {
	set, err := m.build(m.openHost(), cfg, notes)
	if err != nil {
		return nil, "", err
	}
	network := ""
	if set.Network != nil {
		network = set.Network(ctx)
	}
	return engine.CheckAll(ctx, set.Stages, checkTimeout), network, nil
}

// applyResults copies the results of the checks into the status of the stages and
// returns the state. A difference outweighs a check that could not be made.
func applyResults(status *report.Status, mask mask, results []engine.Result) state.State {
	st := state.Complete
	for i, result := range results {
		stage := &status.Stages[i]
		check, err := mask.checkResult(result.Check), mask.err(result.Err)
		stage.Warnings = check.Warnings
		stage.SetCheck(check.Differences, err)
		switch {
		case len(check.Differences) > 0:
			st = state.Drifted
		case err != nil && st == state.Complete:
			st = state.Unknown
		}
	}
	return st
}

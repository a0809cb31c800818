package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
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
	if m.state.RootInMemory() {
		status.Notes = append(status.Notes, inMemoryNote)
	}
	if !m.checkable() {
		status.Notes = append(status.Notes, "this status is from files only; no running machine was checked")
	}
	facts := report.Facts{
		Invalid: noStageStarted && status.State == state.Failed && status.ConfigDigest == "", Untouched: untouched,
		Disabled: !enabled(m.state),
	}
	if !m.checkable() {
		facts.Root = m.Root
	}
	status.Advice = report.Advise(status.State, facts)
	if dir := lastSetAside(m.state); dir != "" {
		status.Notes = append(status.Notes, "the state of another machine was found here and set aside in "+dir)
	}
	// The other version may also be the reason for a drift.
	if version := status.Version; (status.State == state.Complete || status.State == state.Drifted) && version != m.Version {
		status.Notes = append(status.Notes, fmt.Sprintf(
			"this is firstboot %s, but %s completed this host; firstboot run --force applies the difference", m.Version, version))
	}
}

// enabled reports whether a boot starts the run. systemctl makes the link in
// AdminDir, the maker of an image may make it in Dir.
func enabled(h *host.Host) bool {
	link := "/" + units.Enabled()[units.Service] + ".wants/" + units.Service
	return h.Exists(units.AdminDir+link) || h.Exists(units.Dir+link)
}

// recorded returns the status by the lock, the marker and the journal.
func (m *machine) recorded() report.Status {
	pid, held := state.LockHolder(m.state)
	ms, markerErr := m.markerState()
	j, found, journalErr := state.LoadJournal(m.state)
	if journalErr != nil || !found {
		j = state.Journal{Version: m.Version, Machine: m.identity, State: state.NotStarted}
	}
	status := report.FromJournal(j, m.stageNames())
	switch {
	case held:
		m.setRunning(&status, pid, j.State)
	case markerErr != nil:
		setUnknown(&status, markerErr)
	case ms.foreign:
		status = m.emptyStatus(state.Foreign)
		theirs, ours := ms.marker.Machine.Distinguish(m.identity)
		status.Error = fmt.Sprintf("the marker belongs to another machine (%s, this is %s)", theirs, ours)
	case ms.found:
		setComplete(&status, ms.marker)
	case journalErr != nil:
		m.setUnreadable(&status, journalErr)
	case !j.Machine.Same(m.identity):
		status = m.emptyStatus(state.NotStarted)
		theirs, ours := j.Machine.Distinguish(m.identity)
		status.Notes = append(status.Notes, fmt.Sprintf("the journal belongs to another machine (%s, this is %s); the next run sets it aside", theirs, ours))
	default:
		setUnfinished(&status, j)
	}
	if ms.damaged != nil {
		status.Notes = append(status.Notes, ms.damaged.Error()+"; this host is treated as incomplete")
	}
	if ms.foreign && held {
		status.Notes = append(status.Notes, fmt.Sprintf("the marker of another machine (%s) is being set aside", ms.marker.Machine))
	}
	return status
}

// emptyStatus returns the status of a host without records.
func (m *machine) emptyStatus(st state.State) report.Status {
	return report.FromJournal(state.Journal{Version: m.Version, Machine: m.identity, State: st}, m.stageNames())
}

// setRunning sets the status of a host while a run holds the lock.
func (m *machine) setRunning(status *report.Status, pid int, recorded state.State) {
	if recorded != state.Running { // the run has not written its journal yet
		*status = m.emptyStatus(state.Running)
	}
	status.State, status.PID, status.Finished = state.Running, pid, nil
}

// setUnknown sets the status of a host whose state cannot be determined.
func setUnknown(status *report.Status, err error) {
	status.State, status.Error, status.Hint = state.Unknown, err.Error(), engine.Hint(err)
}

// setUnreadable sets the status of a host whose journal cannot be read.
func (m *machine) setUnreadable(status *report.Status, err error) {
	var damaged *state.DamagedError
	if errors.As(err, &damaged) {
		*status = m.emptyStatus(state.NotStarted)
		status.Notes = append(status.Notes, err.Error()+"; the next run starts a new one")
		return
	}
	setUnknown(status, withStateHint(err))
}

// setComplete sets the status of a complete host from its marker. The journal may
// be that of another run.
func setComplete(status *report.Status, marker state.Marker) {
	started, finished := marker.Started.UTC().Truncate(time.Second), marker.Finished.UTC().Truncate(time.Second)
	status.State, status.Version, status.ConfigDigest = state.Complete, marker.Version, marker.ConfigDigest
	status.Machine, status.Started, status.Finished, status.Error = marker.Machine.String(), &started, &finished, ""
	status.Attempt = max(1, status.Attempt)
}

// setUnfinished marks a run that did not record its outcome as failed. No run
// holds the lock, so the journal's last record is out of date.
func setUnfinished(status *report.Status, j state.Journal) {
	switch j.State {
	case state.Running:
		status.State, status.Error = state.Failed, "the last run did not finish: it was killed, or the power failed"
	case state.Complete:
		status.State, status.Error = state.Failed, "the last run did not finish: it ended before it wrote the completion marker"
	default:
		return
	}
	for i := range status.Stages {
		stage := &status.Stages[i]
		if stage.State == state.StageRunning {
			stage.State, stage.NextRetry = state.StagePending, nil
			stage.Error = strings.TrimSuffix("did not finish; "+stage.Error, "; ")
		}
	}
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
	results, err := m.checkStages(ctx, loaded.Config, report.ReadOnlyNotes{Journal: j})
	if err != nil {
		setUnknown(status, err)
		return
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

// checkStages checks every stage.
func (m *machine) checkStages(ctx context.Context, cfg *config.Config, notes Notes) ([]engine.Result, error) {
	set, err := m.build(m.openHost(), cfg, notes)
	if err != nil {
		return nil, err
	}
	return engine.CheckAll(ctx, set.Stages, checkTimeout), nil
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

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

// statusCheck bounds one stage's check in status: etcd in a black hole must
// not keep whoever asks waiting for long. All nine side by side took 25 s on an
// emulated machine with one busy processor.
const statusCheck = 60 * time.Second

// memoryNote is said of a live root without a disk for its changes.
const memoryNote = "this host runs from memory: it joins anew at each boot"

// Status is what is true of the machine now. On a complete host every stage is
// checked; elsewhere the notes tell, once it is clear that no run is under way.
func Status(ctx context.Context, o Options) (report.Status, error) {
	s, err := open(o)
	if err != nil {
		return report.Status{}, err
	}
	status := s.recorded()
	if status.State == state.Complete {
		s.examine(ctx, &status)
	}
	s.advise(&status)
	return status, nil
}

// Recorded is what the notes tell, without a look at the machine.
func RecordedStatus(o Options) (report.Status, error) {
	s, err := open(o)
	if err != nil {
		return report.Status{}, err
	}
	status := s.recorded()
	s.advise(&status)
	return status, nil
}

func (s *site) advise(status *report.Status) {
	invalid := len(status.Stages) > 0 && status.Stages[0].State == state.StagePending
	untouched := true
	for i, stage := range status.Stages {
		if stage.State == state.StageChanged || stage.State == state.StageFailed && i > 0 {
			untouched = false
		}
	}
	if s.state.RootInMemory() {
		status.Notes = append(status.Notes, memoryNote)
	}
	if !s.looksAlive() {
		status.Notes = append(status.Notes, "this is what a folder's files tell; no running machine was looked at")
	}
	status.Advice = report.Advise(status.State, report.Facts{
		Invalid: invalid && status.State == state.Failed && status.ConfigDigest == "", Untouched: untouched,
		Disabled: s.looksAlive() && !enabled(s.state),
	})
	if dir := setAsideBefore(s.state); dir != "" {
		status.Notes = append(status.Notes, "another machine's state was found here and set aside in "+dir)
	}
	// On a drifted host this may be why: another version can want something else.
	if made := status.Version; (status.State == state.Complete || status.State == state.Drifted) && made != s.Version {
		status.Notes = append(status.Notes, fmt.Sprintf(
			"this is firstboot %s, the host was made complete by %s: nothing is done about that until firstboot run --force", s.Version, made))
	}
}

// enabled tells whether a boot starts the run: systemctl's links are in AdminDir,
// those of an image's maker may be in Dir.
func enabled(h *host.Host) bool {
	link := "/" + units.Enabled()[units.Service] + ".wants/" + units.Service
	return h.Exists(units.AdminDir+link) || h.Exists(units.Dir+link)
}

// recorded is what lock, marker and journal tell.
func (s *site) recorded() report.Status {
	pid, held := state.LockHolder(s.state)
	at, markerErr := s.standing()
	j, found, journalErr := state.LoadJournal(s.state)
	if journalErr != nil || !found {
		j = state.Journal{Version: s.Version, Machine: s.this, State: state.NotStarted}
	}
	status := report.FromJournal(j, s.names())
	switch {
	case held:
		s.running(&status, pid, j.State)
	case markerErr != nil:
		fault(&status, markerErr)
	case at.foreign:
		status = s.unmade(state.Foreign)
		theirs, ours := at.marker.Machine.Distinguish(s.this)
		status.Error = fmt.Sprintf("the marker is of machine %s, this is %s", theirs, ours)
	case at.found:
		fromMarker(&status, at.marker)
	case journalErr != nil:
		s.unreadable(&status, journalErr)
	case !j.Machine.Same(s.this):
		status = s.unmade(state.NotStarted)
		theirs, _ := j.Machine.Distinguish(s.this)
		status.Notes = append(status.Notes, fmt.Sprintf("the journal is of machine %s: the next run sets it aside", theirs))
	default:
		cutOff(&status, j)
	}
	if at.damaged != nil {
		status.Notes = append(status.Notes, at.damaged.Error()+": the host counts as not complete")
	}
	if at.foreign && held {
		status.Notes = append(status.Notes, fmt.Sprintf("the marker of another machine (%s) is being set aside", at.marker.Machine))
	}
	return status
}

// unmade is the status of a host of which nothing here tells.
func (s *site) unmade(st state.State) report.Status {
	return report.FromJournal(state.Journal{Version: s.Version, Machine: s.this, State: st}, s.names())
}

func (s *site) running(status *report.Status, pid int, noted state.State) {
	if noted != state.Running { // it has not come to its journal yet
		*status = s.unmade(state.Running)
	}
	status.State, status.PID, status.Finished = state.Running, pid, nil
}

// fault is a state file that says nothing to this firstboot or this user.
func fault(status *report.Status, err error) {
	status.State, status.Error, status.Hint = state.Unknown, err.Error(), engine.Hint(err)
}

func (s *site) unreadable(status *report.Status, err error) {
	var damaged *state.DamagedError
	if errors.As(err, &damaged) {
		*status = s.unmade(state.NotStarted)
		status.Notes = append(status.Notes, err.Error()+": the next run starts a new one")
		return
	}
	fault(status, readable(err))
}

// fromMarker is a complete host. The journal tells more of the same run; where
// it tells of another one, the marker is the one to believe.
func fromMarker(status *report.Status, m state.Marker) {
	started, finished := m.Started.UTC().Truncate(time.Second), m.Finished.UTC().Truncate(time.Second)
	status.State, status.Version, status.ConfigDigest = state.Complete, m.Version, m.ConfigDigest
	status.Machine, status.Started, status.Finished, status.Error = m.Machine.String(), &started, &finished, ""
	status.Attempt = max(1, status.Attempt)
}

// cutOff finds the runs that had no time to say how they ended: no lock is
// held, and what the journal says last cannot be so any more.
func cutOff(status *report.Status, j state.Journal) {
	switch j.State {
	case state.Running:
		status.State, status.Error = state.Failed, "the run was cut off (killed, or the power went): no run is under way"
	case state.Complete:
		status.State, status.Error = state.Failed, "the run was cut off before it wrote the completion marker"
	default:
		return
	}
	for i := range status.Stages {
		stage := &status.Stages[i]
		if stage.State == state.StageRunning {
			stage.State, stage.NextRetry = state.StagePending, nil
			stage.Error = strings.TrimSuffix("cut off; "+stage.Error, "; ")
		}
	}
}

// examine looks at a machine whose marker says complete.
func (s *site) examine(ctx context.Context, status *report.Status) {
	if !s.looksAlive() {
		return
	}
	loaded, err := s.saved()
	switch {
	case err != nil:
		fault(status, err)
		return
	case loaded == nil:
		fault(status, engine.WithHint(fmt.Errorf("%s is gone: nothing tells what this host should be", state.EffectivePath),
			"firstboot run --force reads the configuration files anew"))
		return
	}
	j, _, _ := state.LoadJournal(s.state) // without it the checks have no notes, and say so
	results, err := s.check(ctx, loaded.Config, report.ReadOnlyNotes{Journal: j})
	if err != nil {
		fault(status, err)
		return
	}
	status.State = judge(status, newMask(s.state, loaded.Config), results)
	change := s.edited(ctx, loaded, j.ConfigFiles)
	if loaded.Digest != status.ConfigDigest {
		change = "configuration changed: the saved one is not the one that this host was completed with"
	}
	if change != "" {
		status.State, status.Error, status.Hint = state.Drifted, change, "firstboot run --force applies it"
	}
}

// check checks every stage.
func (s *site) check(ctx context.Context, cfg *config.Config, notes Notes) ([]engine.Result, error) {
	work, err := s.build(s.host(), cfg, notes)
	if err != nil {
		return nil, err
	}
	return engine.CheckAll(ctx, work.Stages, statusCheck), nil
}

// judge puts what the checks saw into the stages' status and gives the state:
// one thing that is wrong outweighs another that could not be looked at.
func judge(status *report.Status, m mask, results []engine.Result) state.State {
	st := state.Complete
	for i, result := range results {
		stage := &status.Stages[i]
		stage.Error, stage.Hint, stage.NextRetry = "", "", nil
		stage.Warnings = result.Check.Warnings
		differences := m.differences(result.Check.Differences)
		switch {
		case len(differences) > 0:
			stage.State, st = state.StageFailed, state.Drifted
			stage.Error, stage.Hint = report.Summary(differences)
		case result.Err != nil:
			err := m.err(result.Err)
			stage.State, stage.Error, stage.Hint = state.StageUnknown, err.Error(), engine.Hint(err)
			if st == state.Complete {
				st = state.Unknown
			}
		case stage.State != state.StageChanged:
			stage.State = state.StageOK
		}
	}
	return st
}

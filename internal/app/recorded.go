package app

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// recorded returns the status by the lock and the state files.
func (m *machine) recorded() report.Status {
	holder, held := state.LockHolder(m.state)
	s, err := m.records.Read()
	m.denied = errors.Is(err, fs.ErrPermission)
	status := m.statusOf(s, err)
	for _, d := range s.Damaged {
		status.Notes = append(status.Notes, d.Error()+"; "+consequence(d.Path))
	}
	if d := s.Departure.Damage(); d != nil {
		status.Notes = append(status.Notes, d.Error()+"; "+consequence(d.Path))
	}
	if !held {
		return status
	}
	switch holder.Command {
	case state.CommandRun:
		m.setRunning(&status, s, holder.PID)
	case state.CommandLeave:
		status.State, status.PID, status.Finished, status.Error, status.Advice = state.Running, holder.PID, nil, "", report.Advice{}
		status.Notes = append(status.Notes, "this host is leaving the network")
	default:
		status.Notes = append(status.Notes, fmt.Sprintf("firstboot %s is in progress (pid %d)", holder.Command, holder.PID))
	}
	return status
}

// consequence describes what a damaged file means.
func consequence(path string) string {
	switch path {
	case state.MarkerPath:
		return "this host is treated as incomplete"
	case state.JournalPath:
		return "the next run starts a new one"
	case state.LeftPath:
		return "this host counts as left; firstboot leave writes a new one, firstboot run joins again"
	}
	return "the next run sets it aside"
}

// statusOf returns the status of a host while no command works on it. err is the
// error of reading the state.
func (m *machine) statusOf(s state.Snapshot, err error) report.Status {
	j := s.Journal
	if !s.HasJournal {
		j = state.Journal{Version: m.Version, Machine: m.identity, State: state.NotStarted}
	}
	status := report.FromJournal(j, m.stageNames())
	switch {
	case err != nil:
		setUnknown(&status, withStateHint(err))
	case s.State == state.Complete:
		setComplete(&status, s.Marker)
	case s.State == state.Foreign:
		return m.foreignStatus(s)
	case s.State == state.Left:
		setLeft(&status)
	case s.State == state.Leaving:
		setLeaving(&status)
	default:
		setUnfinished(&status, s)
	}
	return status
}

// emptyStatus returns the status of a host without records.
func (m *machine) emptyStatus(st state.State) report.Status {
	return report.FromJournal(state.Journal{Version: m.Version, Machine: m.identity, State: st}, m.stageNames())
}

// foreignStatus returns the status of a clone. A clone of a host that was never
// complete has not started.
func (m *machine) foreignStatus(s state.Snapshot) report.Status {
	theirs, ours := s.Owner.Distinguish(m.identity)
	if s.Marker.Machine == s.Owner {
		status := m.emptyStatus(state.Foreign)
		status.Error = fmt.Sprintf("the marker belongs to another machine (%s, this is %s)", theirs, ours)
		return status
	}
	status := m.emptyStatus(state.NotStarted)
	status.Notes = append(status.Notes, fmt.Sprintf("%s belongs to another machine (%s, this is %s); the next run sets it aside", s.ForeignFile, theirs, ours))
	return status
}

// setRunning sets the status of a host while a run holds the lock.
func (m *machine) setRunning(status *report.Status, s state.Snapshot, pid int) {
	notes := status.Notes
	if s.Journal.State != state.Running { // the run has not written its journal yet
		*status = m.emptyStatus(state.Running)
	} else {
		*status = report.FromJournal(s.Journal, m.stageNames())
	}
	if s.State == state.Foreign {
		notes = append(notes, fmt.Sprintf("the state of another machine (%s) is being set aside", s.Owner))
	}
	status.Notes, status.PID, status.Finished = notes, pid, nil
}

// setUnknown sets the status of a host whose state cannot be determined.
func setUnknown(status *report.Status, err error) {
	status.State, status.Error, status.Hint = state.Unknown, err.Error(), engine.Hint(err)
}

// setComplete sets the status of a complete host from its marker. The journal may
// be that of another run.
func setComplete(status *report.Status, marker state.Marker) {
	started, finished := marker.Started.UTC().Truncate(time.Second), marker.Finished.UTC().Truncate(time.Second)
	status.State, status.Version, status.ConfigDigest = state.Complete, marker.Version, marker.ConfigDigest
	status.Machine, status.Started, status.Finished, status.Error = marker.Machine.String(), &started, &finished, ""
	status.Attempt = max(1, status.Attempt)
}

// setLeft sets the status of a host that left the network.
func setLeft(status *report.Status) {
	if status.State != state.Left { // selected stages were run since
		status.Notes = append(status.Notes, "the stages are from a run after this host left")
	}
	status.State = state.Left
	clearUnfinished(status)
}

// setLeaving sets the status of a host whose leave was interrupted.
func setLeaving(status *report.Status) {
	status.State, status.Error = state.Failed, "firstboot leave did not finish: it failed, was stopped or killed, or the power failed"
	status.Advice = report.Advice{Next: "nothing continues by itself", Type: []report.Command{{Line: "firstboot leave", When: "to continue"}, {Line: "firstboot run", When: "to join again"}}}
	clearUnfinished(status)
}

// setUnfinished marks a run that did not record its outcome as failed. No run
// holds the lock, so the journal's last record is out of date.
func setUnfinished(status *report.Status, s state.Snapshot) {
	switch {
	case s.Journal.State == state.Running:
		status.State, status.Error = state.Failed, "the last run did not finish: it was killed, or the power failed"
	case s.Journal.State == state.Complete, s.State == state.Retired:
		status.State, status.Error = state.Failed, "the last run did not finish: it ended before it wrote the completion marker"
	default:
		return
	}
	clearUnfinished(status)
}

// clearUnfinished marks the stages that were running when a run was killed.
func clearUnfinished(status *report.Status) {
	for i := range status.Stages {
		stage := &status.Stages[i]
		if stage.State == state.StageRunning {
			stage.State, stage.NextRetry = state.StagePending, nil
			stage.Error = strings.TrimSuffix("did not finish; "+stage.Error, "; ")
		}
	}
}

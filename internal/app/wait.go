package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// pollInterval is the pause between two checks of status --wait. unitTimeout
// limits one query to systemd.
const (
	pollInterval = 500 * time.Millisecond
	unitTimeout  = 2 * time.Second
)

// WaitForRun waits until the host is complete, or until a run has failed or was
// refused and this boot starts no other run. timedOut reports that ctx ended
// first. progress gets a line whenever the reason to wait changes.
func WaitForRun(ctx context.Context, o Options, progress io.Writer) (timedOut bool, err error) {
	m, err := open(o)
	if err != nil {
		return false, err
	}
	systemd := m.openHost().Systemd() // one connection for every poll
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for last := ""; ; {
		status := m.recorded()
		if m.ended(ctx, systemd, status) {
			return false, nil
		}
		if line := waitLine(status); line != last {
			last = line
			// The status follows even if this cannot be written.
			_, _ = fmt.Fprintln(progress, "firstboot: "+line)
		}
		select {
		case <-ctx.Done():
			return true, nil
		case <-ticker.C:
		}
	}
}

// ended reports whether the status is final for this boot.
func (m *machine) ended(ctx context.Context, systemd host.Systemd, status report.Status) bool {
	switch status.State {
	case state.Complete, state.Unknown:
		return true
	case state.Failed, state.Refused, state.Foreign, state.Left:
		return !m.runExpected(ctx, systemd)
	}
	return false
}

// runExpected reports whether the service is about to start a run. The recorded
// state is then that of an earlier run.
func (m *machine) runExpected(ctx context.Context, systemd host.Systemd) bool {
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	unit, err := systemd.Unit(ctx, units.Service)
	if err != nil {
		return false
	}
	if unit.Active == "activating" {
		return true
	}
	j, _, err := state.LoadJournal(m.state)
	earlierBoot := err == nil && j.BootID != "" && j.BootID != m.state.BootID()
	return earlierBoot && unit.Active == "inactive" && unit.FileState == "enabled" && unit.Result == "success" && unit.Since.IsZero()
}

func waitLine(status report.Status) string {
	switch status.State {
	case state.NotStarted:
		return "waiting for the run to start"
	case state.Running:
		for _, stage := range status.Stages {
			if stage.State == state.StageRunning && stage.WaitsFor != "" {
				return fmt.Sprintf("the run is in progress: %s is waiting for %s", stage.Name, stage.WaitsFor)
			}
		}
		for _, stage := range status.Stages {
			if stage.State == state.StageRunning {
				return "the run is in progress: " + stage.Name
			}
		}
		return "the run is in progress"
	}
	return fmt.Sprintf("the state of the last run is %s; waiting for this boot's run", status.State)
}

package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// waitLook is the pause between two looks of status --wait, waitAsk the time
// that systemd gets to answer.
const (
	waitLook = 500 * time.Millisecond
	waitAsk  = 2 * time.Second
)

// Wait waits until a run has ended and no other is about to begin: complete,
// failed or refused. ranOut tells that ctx ended first. progress gets a line
// whenever what is waited for changes.
func WaitForRun(ctx context.Context, o Options, progress io.Writer) (ranOut bool, err error) {
	s, err := open(o)
	if err != nil {
		return false, err
	}
	ticker := time.NewTicker(waitLook)
	defer ticker.Stop()
	for last := ""; ; {
		status := s.recorded()
		if s.settled(ctx, status) {
			return false, nil
		}
		if line := waitLine(status); line != last {
			last = line
			// Whoever does not read this still gets the status.
			_, _ = fmt.Fprintln(progress, "firstboot: "+line)
		}
		select {
		case <-ctx.Done():
			return true, nil
		case <-ticker.C:
		}
	}
}

// settled tells whether waiting longer changes nothing.
func (s *site) settled(ctx context.Context, status report.Status) bool {
	switch status.State {
	case state.Complete, state.Unknown:
		return true
	case state.Failed, state.Refused, state.Foreign:
		return !s.coming(ctx)
	}
	return false
}

// coming tells whether this boot's run is still to begin: the state is that of
// an earlier boot's run then, or one that the service is about to replace.
func (s *site) coming(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, waitAsk)
	defer cancel()
	unit, err := s.host().Systemd().Unit(ctx, units.Service)
	if err != nil {
		return false
	}
	if unit.Active == "activating" {
		return true
	}
	j, _, err := state.LoadJournal(s.state)
	ranBefore := err == nil && j.BootID != "" && j.BootID != s.state.BootID()
	return ranBefore && unit.Active == "inactive" && unit.FileState == "enabled" && unit.Result == "success" && unit.Since.IsZero()
}

func waitLine(status report.Status) string {
	switch status.State {
	case state.NotStarted:
		return "waiting for the run to start"
	case state.Running:
		for _, stage := range status.Stages {
			if stage.State == state.StageRunning && stage.WaitsFor != "" {
				return fmt.Sprintf("the run is under way: %s is waiting for %s", stage.Name, stage.WaitsFor)
			}
		}
		for _, stage := range status.Stages {
			if stage.State == state.StageRunning {
				return "the run is under way: " + stage.Name
			}
		}
		return "the run is under way"
	}
	return fmt.Sprintf("the last run's state is %s; waiting for this boot's run", status.State)
}

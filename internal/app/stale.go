package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// RemoveStale removes what Docker's last containers left in the cluster, before
// Docker starts. It does nothing unless the completion marker names this machine:
// a clone must not remove the endpoints of its original.
func RemoveStale(ctx context.Context, o Options) (summary string, err error) {
	set, mask, err := completeSet(o)
	if err != nil || set.RemoveStale == nil {
		return "", err
	}
	endpoints, links, err := set.RemoveStale(ctx)
	if endpoints > 0 || links > 0 {
		summary = fmt.Sprintf("removed stale endpoints: %d, leftover interfaces: %d", endpoints, links)
	}
	return summary, mask.err(err)
}

// RestoreNetwork writes the adapter's file again if it is missing on a host that is
// complete, and reports whether it did.
func RestoreNetwork(ctx context.Context, o Options) (restored bool, err error) {
	set, mask, err := completeSet(o)
	if err != nil || set.RestoreNetwork == nil {
		return false, err
	}
	restored, err = set.RestoreNetwork(ctx)
	return restored, mask.err(err)
}

// completeSet returns the stages of this machine with its saved configuration. They
// are empty unless the completion marker names this machine.
func completeSet(o Options) (StageSet, mask, error) {
	m, err := open(o)
	if err != nil || !m.checkable() {
		return StageSet{}, mask{}, err
	}
	marker, found, err := state.LoadMarker(m.state)
	var damaged *state.DamagedError
	switch {
	case errors.As(err, &damaged):
		return StageSet{}, mask{}, nil // the run reports it and starts over
	case err != nil || !found || !marker.Machine.Same(m.identity) || marker.Machine == (state.Machine{}):
		return StageSet{}, mask{}, err
	}
	loaded, err := m.saved()
	if err != nil || loaded == nil {
		return StageSet{}, mask{}, err
	}
	j, _, _ := state.LoadJournal(m.state) // nothing here needs its notes
	set, err := m.build(m.openHost(), loaded.Config, report.ReadOnlyNotes{Journal: j})
	return set, newMask(m.state, loaded.Config), err
}

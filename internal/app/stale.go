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
	m, err := open(o)
	if err != nil || !m.checkable() {
		return "", err
	}
	marker, found, err := state.LoadMarker(m.state)
	var damaged *state.DamagedError
	switch {
	case errors.As(err, &damaged):
		return "", nil // the run reports it and starts over
	case err != nil || !found || !marker.Machine.Same(m.identity) || marker.Machine == (state.Machine{}):
		return "", err
	}
	loaded, err := m.saved()
	if err != nil || loaded == nil {
		return "", err
	}
	j, _, _ := state.LoadJournal(m.state) // nothing here needs its notes
	set, err := m.build(m.openHost(), loaded.Config, report.ReadOnlyNotes{Journal: j})
	if err != nil || set.RemoveStale == nil {
		return "", err
	}
	endpoints, links, err := set.RemoveStale(ctx)
	if endpoints > 0 || links > 0 {
		summary = fmt.Sprintf("removed stale endpoints: %d, leftover interfaces: %d", endpoints, links)
	}
	return summary, newMask(m.state, loaded.Config).err(err)
}

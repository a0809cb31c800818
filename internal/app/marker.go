package app

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// markerState is what the completion marker states about this machine. A run on
// a complete host reads nothing else.
type markerState struct {
	marker  state.Marker
	found   bool
	foreign bool  // the marker names another machine
	damaged error // why the marker cannot be parsed
}

// complete reports whether the marker names this machine.
func (s markerState) complete() bool { return s.found && !s.foreign }

func (m *machine) markerState() (markerState, error) {
	marker, found, err := state.LoadMarker(m.state)
	var damaged *state.DamagedError
	switch {
	case errors.As(err, &damaged):
		return markerState{damaged: damaged}, nil
	case err != nil:
		return markerState{}, withStateHint(err)
	}
	return markerState{marker: marker, found: found, foreign: found && !marker.Machine.Same(m.identity)}, nil
}

// withStateHint adds a hint to the error of a state file.
func withStateHint(err error) error {
	var newer *state.NewerError
	switch {
	case errors.As(err, &newer):
		return engine.WithHint(err, "it was written by a newer firstboot; use that version")
	case errors.Is(err, fs.ErrPermission):
		return engine.WithHint(err, "try again as root: sudo firstboot …")
	}
	return err
}

// moveMarker moves a marker that is foreign, damaged or to be replaced by force
// out of the way of a run. printf gets a line about a foreign or damaged one.
func (m *machine) moveMarker(ms markerState, force bool, printf func(string, ...any)) error {
	if ms.damaged != nil {
		printf("%v; it was renamed to %s.damaged, and this host is treated as incomplete", ms.damaged, state.MarkerPath)
		return m.state.Rename(state.MarkerPath, state.MarkerPath+".damaged")
	}
	if ms.foreign {
		return m.setAside("the completion marker", ms.marker.Machine, printf)
	}
	if ms.found && force {
		return state.RetireMarker(m.state)
	}
	return nil
}

// setAside sets aside the state of another machine, the owner of file.
func (m *machine) setAside(file string, owner state.Machine, printf func(string, ...any)) error {
	dir, err := state.SetAside(m.state, owner, time.Now())
	if err != nil {
		return fmt.Errorf("cannot set aside the state of another machine: %w", err)
	}
	theirs, ours := owner.Distinguish(m.identity)
	printf("%s belongs to another machine (%s, this is %s); it was set aside in %s, and the run starts from the beginning", file, theirs, ours, dir)
	return nil
}

// previousJournal loads the journal of the last run. It renames a damaged one
// and sets aside that of another machine; in both cases it returns an empty one.
func (m *machine) previousJournal(printf func(string, ...any)) (state.Journal, error) {
	j, found, err := state.LoadJournal(m.state)
	var damaged *state.DamagedError
	switch {
	case errors.As(err, &damaged):
		printf("%v; it was renamed to %s.damaged", damaged, state.JournalPath)
		return state.Journal{}, m.state.Rename(state.JournalPath, state.JournalPath+".damaged")
	case err != nil:
		return j, withStateHint(err)
	case found && !j.Machine.Same(m.identity):
		return state.Journal{}, m.setAside("the journal", j.Machine, printf)
	}
	return j, nil
}

// lastSetAside returns the directory of the last state that was set aside, or "".
func lastSetAside(h *host.Host) string {
	names, err := h.ReadDir(state.ForeignDir)
	if err != nil || len(names) == 0 {
		return ""
	}
	return state.ForeignDir + "/" + names[len(names)-1]
}

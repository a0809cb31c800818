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

// standing is what marker and identity say of a machine: all that a run on a
// complete host looks at.
type standing struct {
	marker  state.Marker
	found   bool
	foreign bool  // the marker is another machine's
	damaged error // the marker is there and says nothing
}

// complete tells whether the marker says so, of this machine.
func (s standing) complete() bool { return s.found && !s.foreign }

func (s *site) standing() (standing, error) {
	marker, found, err := state.LoadMarker(s.state)
	var damaged *state.DamagedError
	switch {
	case errors.As(err, &damaged):
		return standing{damaged: damaged}, nil
	case err != nil:
		return standing{}, readable(err)
	}
	return standing{marker: marker, found: found, foreign: found && !marker.Machine.Same(s.this)}, nil
}

// readable adds to an error of a state file what can be done about it.
func readable(err error) error {
	var newer *state.NewerError
	switch {
	case errors.As(err, &newer):
		return engine.WithHint(err, "it was written by a newer firstboot: use that one")
	case errors.Is(err, fs.ErrPermission):
		return engine.WithHint(err, "try again as root: sudo firstboot …")
	}
	return err
}

// clear makes way for a run: another machine's state is set aside, and so is
// what cannot be read. say gets a line about each.
func (s *site) clear(at standing, force bool, say func(string, ...any)) error {
	if at.damaged != nil {
		say("%v; it is kept as %s.damaged, and this host counts as not complete", at.damaged, state.MarkerPath)
		return s.state.Rename(state.MarkerPath, state.MarkerPath+".damaged")
	}
	if at.foreign {
		return s.setAside("the completion marker", at.marker.Machine, say)
	}
	if at.found && force {
		return state.RetireMarker(s.state)
	}
	return nil
}

func (s *site) setAside(what string, whose state.Machine, say func(string, ...any)) error {
	dir, err := state.SetAside(s.state, whose, time.Now())
	if err != nil {
		return fmt.Errorf("cannot set another machine's state aside: %w", err)
	}
	theirs, ours := whose.Distinguish(s.this)
	say("%s is another machine's (%s, this is %s): it was set aside in %s, and the run starts from nothing", what, theirs, ours, dir)
	return nil
}

// story loads the journal of the last run. A damaged one is kept and counts as
// none; another machine's is set aside.
func (s *site) story(say func(string, ...any)) (state.Journal, error) {
	j, found, err := state.LoadJournal(s.state)
	var damaged *state.DamagedError
	switch {
	case errors.As(err, &damaged):
		say("%v; it is kept as %s.damaged", damaged, state.JournalPath)
		return state.Journal{}, s.state.Rename(state.JournalPath, state.JournalPath+".damaged")
	case err != nil:
		return j, readable(err)
	case found && !j.Machine.Same(s.this):
		return state.Journal{}, s.setAside("the journal", j.Machine, say)
	}
	return j, nil
}

// setAsideBefore names the folder of the last state that was set aside, ""
// where there is none.
func setAsideBefore(h *host.Host) string {
	names, err := h.ReadDir(state.ForeignDir)
	if err != nil || len(names) == 0 {
		return ""
	}
	return state.ForeignDir + "/" + names[len(names)-1]
}

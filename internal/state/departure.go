package state

import (
	"errors"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Departure is the record of a host that left its network, or is leaving. It
// outlives the journal: only a whole run that a person requests removes it.
type Departure struct {
	Schema   int       `json:"schema"`
	Machine  Machine   `json:"machine"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"` // zero: leave has not finished

	exists  bool
	damaged *DamagedError
}

// loadDeparture reads the record. A damaged one still means that the host left:
// nothing may make it join again.
func loadDeparture(h *host.Host) (Departure, error) {
	var d Departure
	found, err := load(h, LeftPath, &d)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return Departure{exists: true, damaged: damaged}, nil
	}
	d.exists = found
	return d, err
}

func (d *Departure) check() error { return d.Machine.check() }

// Damage returns why the record cannot be read, or nil.
func (d Departure) Damage() *DamagedError { return d.damaged }

// known reports whether the record exists and can be read.
func (d Departure) known() bool { return d.exists && d.damaged == nil }

func (d Departure) state() State {
	if d.known() && d.Finished.IsZero() {
		return Leaving
	}
	return Left
}

func (d Departure) remove(h *host.Host) error {
	switch {
	case !d.exists:
		return nil
	case d.damaged != nil:
		return SetAsideDamaged(h, LeftPath)
	}
	return h.Remove(LeftPath)
}

// Leave is a leave in progress. Its transitions are StartLeave, Finish and
// Cancel.
type Leave struct {
	records   *Records
	from      State
	state     State
	departure Departure
	journal   Journal
	damaged   *DamagedError
	retired   bool // this leave retired the marker
}

// Damaged returns the damaged record of an earlier leave that StartLeave renamed
// (DamagedPath), or nil.
func (l *Leave) Damaged() *DamagedError { return l.damaged }

// StartLeave records that this host is leaving. From then on it is not complete,
// and no boot makes it join again.
func (r *Records) StartLeave(now time.Time) (*Leave, error) {
	if !r.self.Known() {
		return nil, ErrNoIdentity
	}
	s, err := r.Read()
	if err != nil {
		return nil, err
	}
	next, err := Next(s.State, StartLeave)
	if err != nil {
		return nil, err
	}
	l := &Leave{records: r, from: s.State, state: next, departure: s.Departure, journal: s.Journal, damaged: s.Departure.damaged}
	if l.damaged != nil {
		if err := SetAsideDamaged(r.host, LeftPath); err != nil {
			return nil, fmt.Errorf("cannot set aside %s: %w", LeftPath, err)
		}
		// Until leave ends, a boot must not join this host again.
		l.departure = Departure{Machine: r.self, Started: now.UTC(), Finished: now.UTC()}
		if err := l.departure.save(r.host); err != nil {
			return nil, fmt.Errorf("cannot record that this host has left: %w", err)
		}
	}
	if next == Leaving && !s.Departure.exists {
		l.departure = Departure{Machine: r.self, Started: now.UTC()}
		if err := l.departure.save(r.host); err != nil {
			return nil, fmt.Errorf("cannot record that this host is leaving: %w", err)
		}
	}
	if r.host.Exists(MarkerPath) {
		if err := retireMarker(r.host); err != nil {
			return nil, fmt.Errorf("cannot retire the completion marker: %w", err)
		}
		l.retired = s.State == Complete
	}
	return l, nil
}

func (d *Departure) save(h *host.Host) error {
	d.Schema = Schema
	return save(h, LeftPath, d)
}

// Finish records that this host has left. The journal keeps its notes: a later
// run needs them. version, bootID and stages describe the new journal.
func (l *Leave) Finish(now time.Time, version, bootID string, stages []string) error {
	next, err := Next(l.state, FinishLeave)
	if err != nil {
		return err
	}
	h := l.records.host
	l.state, l.departure.Machine, l.departure.Finished = next, l.records.self, now.UTC()
	if err := l.departure.save(h); err != nil {
		return fmt.Errorf("cannot record that this host has left: %w", err)
	}
	j := Journal{
		State: Left, Version: version, Machine: l.records.self, BootID: bootID, Started: l.departure.Started, Finished: now.UTC(),
		ConfigDigest: l.journal.ConfigDigest, ConfigFiles: l.journal.ConfigFiles, Notes: l.journal.Notes,
	}
	j.Notes.Probe = Probe{} // the tested network is no longer in use
	for _, name := range stages {
		j.Stage(name)
	}
	return j.save(h, JournalPath)
}

// Cancel returns to the state before StartLeave. It is legal only while nothing
// was changed. It reports whether it did: a host that was leaving before stays
// so.
func (l *Leave) Cancel() (bool, error) {
	if l.from == Leaving || l.from == Left {
		return false, nil
	}
	h := l.records.host
	if l.retired {
		if err := h.Rename(RetiredPath, MarkerPath); err != nil {
			return false, err
		}
	}
	if err := h.Remove(LeftPath); err != nil {
		return false, err
	}
	l.state = l.from
	return true, nil
}

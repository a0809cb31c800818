package state

import (
	"errors"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Records are the state files of a host, and the only way to change its state.
// A command that changes it must hold the lock.
type Records struct {
	host *host.Host
	self Machine
}

// OpenRecords returns the records of the machine self, which h accesses.
func OpenRecords(h *host.Host, self Machine) *Records { return &Records{h, self} }

// Snapshot is the state of a host, and the files from which it was determined.
type Snapshot struct {
	State      State
	Marker     Marker // if State is Complete, or the foreign file is the marker
	Journal    Journal
	HasJournal bool // the journal is this machine's and can be read
	JournalErr error
	Departure  Departure // if State is Leaving or Left
	Retired    *Marker

	Owner       Machine // if State is Foreign
	ForeignFile string  // which file names the owner
	Damaged     []*DamagedError
}

// Complete reports whether this host is complete, and its marker. It reads only
// the marker and whether the host left.
func (r *Records) Complete() (Marker, bool) {
	if r.host.Exists(LeftPath) {
		return Marker{}, false
	}
	marker, found, err := LoadMarker(r.host)
	return marker, err == nil && found && marker.Machine.Same(r.self)
}

// Read determines the state. An error means that it cannot be determined: a file
// is from a newer firstboot, or only root can read it.
func (r *Records) Read() (Snapshot, error) {
	var s Snapshot
	marker, hasMarker, err := LoadMarker(r.host)
	if err := s.note(err); err != nil {
		return s, err
	}
	if s.Departure, err = loadDeparture(r.host); err != nil {
		return s, err
	}
	former, hasFormer, err := loadMarker(r.host, RetiredPath)
	if err := s.note(err); err != nil {
		return s, err
	}
	if hasFormer && former.Machine.Same(r.self) {
		s.Retired = &former
	}
	s.Marker = marker
	markerDamaged := len(s.Damaged) > 0 && s.Damaged[0].Path == MarkerPath
	j, hasJournal, err := LoadJournal(r.host)
	s.JournalErr = s.note(err)
	foreignJournal := hasJournal && !j.Machine.Same(r.self)
	if hasJournal && !foreignJournal {
		s.Journal, s.HasJournal = j, true
	}
	switch {
	case hasMarker && !marker.Machine.Same(r.self):
		s.setForeign(marker.Machine, "the completion marker")
	case s.Departure.known() && !s.Departure.Machine.Same(r.self):
		s.setForeign(s.Departure.Machine, "the record of a host that left")
	case s.Departure.exists:
		s.State = s.Departure.state()
	case hasMarker:
		s.State = Complete
	case s.JournalErr != nil:
		return s, s.JournalErr
	case markerDamaged || len(s.Damaged) > 0 && !hasJournal:
		s.State = Damaged
	case foreignJournal:
		s.setForeign(j.Machine, "the journal")
	default:
		s.State = s.recorded()
	}
	return s, nil
}

func (s *Snapshot) setForeign(owner Machine, file string) {
	s.State, s.Owner, s.ForeignFile = Foreign, owner, file
}

// note keeps a damage and returns every other error.
func (s *Snapshot) note(err error) error {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		s.Damaged = append(s.Damaged, damaged)
		return nil
	}
	return err
}

// recorded returns the state of a host without a marker, by its journal.
func (s *Snapshot) recorded() State {
	if d, ok := s.earlierDeparture(); ok {
		return d.state()
	}
	switch s.Journal.State {
	case Running, Refused, Failed, Left:
		return s.Journal.State
	case Complete:
		return Retired
	}
	if !s.HasJournal && s.Retired != nil {
		return Retired
	}
	return NotStarted
}

// earlierDeparture returns the departure that a firstboot without LeftPath
// recorded in the journal, and whether there is one.
func (s *Snapshot) earlierDeparture() (Departure, bool) {
	d := Departure{Machine: s.Journal.Machine, Started: s.Journal.Started, exists: true}
	if s.Departure.exists || !s.HasJournal || s.Journal.State != NotStarted {
		return d, false
	}
	switch s.Journal.Error {
	case "this host has left the network":
		d.Finished = s.Journal.Finished
		return d, true
	case "this host is leaving the network":
		return d, true
	}
	return d, false
}

// Recover sets aside foreign and damaged files, so that every other event
// becomes legal. It passes a line about each of them to printf. A departure that
// an earlier firstboot recorded gets its own record: the next journal would
// replace it.
func (r *Records) Recover(now time.Time, printf func(string, ...any)) error {
	if !r.self.Known() {
		return ErrNoIdentity // every file would look foreign
	}
	for {
		s, err := r.Read()
		if err != nil {
			return err
		}
		switch {
		case s.State == Foreign:
			err = r.recoverForeign(s, now, printf)
		case len(s.Damaged) > 0:
			err = r.recoverDamaged(s.Damaged[0], printf)
		default:
			if d, ok := s.earlierDeparture(); ok {
				return d.save(r.host)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *Records) recoverForeign(s Snapshot, now time.Time, printf func(string, ...any)) error {
	dir, err := setAsideForeign(r.host, s.Owner, now)
	if err != nil {
		return fmt.Errorf("cannot set aside the state of another machine: %w", err)
	}
	theirs, ours := s.Owner.Distinguish(r.self)
	printf("%s belongs to another machine (%s, this is %s); it was set aside in %s, and the run starts from the beginning", s.ForeignFile, theirs, ours, dir)
	return nil
}

func (r *Records) recoverDamaged(d *DamagedError, printf func(string, ...any)) error {
	if err := SetAsideDamaged(r.host, d.Path); err != nil {
		return err
	}
	incomplete := ""
	if d.Path == MarkerPath {
		incomplete = ", and this host is treated as incomplete"
	}
	printf("%v; it was renamed to %s%s", d, DamagedPath(d.Path), incomplete)
	return nil
}

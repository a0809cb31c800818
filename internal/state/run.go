package state

import (
	"errors"
	"fmt"
	"time"
)

// Start describes how a run starts.
type Start struct {
	Event   Event // StartRun, StartAtBoot, StartForced or StartSelected
	Version string
	BootID  string
	Now     time.Time
}

// Run is a run as far as the state is concerned: Start, End and Commit are its
// transitions. It never restores a marker that another run retired.
type Run struct {
	records *Records
	start   Event
	from    State    // before the run
	state   State    // now
	retired *Marker  // the last retired marker
	ours    bool     // this run retired it
	first   *Journal // as the run starts
	damaged *DamagedError
}

// ErrNoIdentity means that no marker could name this machine.
var ErrNoIdentity = errors.New("this machine has no identity: /etc/machine-id is empty")

// Start starts a run. From then on the host is not complete, until Commit.
func (r *Records) Start(o Start) (*Run, error) {
	if !r.self.Known() {
		return nil, ErrNoIdentity
	}
	s, err := r.Read()
	if err == nil {
		err = s.JournalErr
	}
	if err != nil {
		return nil, err
	}
	next, err := Next(s.State, o.Event)
	if err != nil {
		return nil, err
	}
	run := &Run{records: r, start: o.Event, from: s.State, state: next, retired: s.Retired, first: s.journalOf(o, r.self)}
	if r.host.Exists(MarkerPath) {
		if err := retireMarker(r.host); err != nil {
			return nil, fmt.Errorf("cannot retire the completion marker: %w", err)
		}
		run.ours = s.State == Complete
		if run.ours {
			run.retired = &s.Marker
		}
	}
	if next == Running && s.Departure.exists {
		if err := s.Departure.remove(r.host); err != nil {
			return nil, fmt.Errorf("cannot remove the record of leaving: %w", err)
		}
		run.damaged = s.Departure.damaged
	}
	return run, nil
}

// Damaged returns the damaged record of a leave that Start renamed
// (DamagedPath), or nil.
func (r *Run) Damaged() *DamagedError { return r.damaged }

// journalOf returns the journal of a run that starts. It keeps the notes of the
// last one, but a whole run tests the network again: the record of an earlier
// probe container may be older than a leave or another change.
func (s *Snapshot) journalOf(o Start, self Machine) *Journal {
	notes := s.Journal.Notes
	if o.Event != StartSelected {
		notes.Probe = Probe{}
	}
	attempt := s.Journal.Attempt + 1
	if s.State == Complete || s.Journal.State == Complete {
		attempt = 1
	}
	return &Journal{
		State: Running, Version: o.Version, Machine: self, BootID: o.BootID, Attempt: attempt, Started: o.Now.UTC(),
		Notes: notes, ConfigFiles: s.Journal.ConfigFiles, ConfigDigest: s.Journal.ConfigDigest,
	}
}

// Journal returns the journal with which the run starts.
func (r *Run) Journal() Journal { return *r.first }

// Save writes the journal durably. Its state is Running until End.
func (r *Run) Save(j *Journal) error { return r.write(j, JournalPath) }

// SaveProgress writes the journal for the commands of this boot, such as status.
// It is in memory: a power cut loses what was not saved as well.
func (r *Run) SaveProgress(j *Journal) error { return r.write(j, ProgressPath) }

func (r *Run) write(j *Journal, path string) error {
	if j.State != Running && j.State != r.state {
		return &TransitionError{r.state, Event("journal " + j.State)}
	}
	return j.save(r.records.host, path)
}

// WasComplete reports whether the host was complete before the run.
func (r *Run) WasComplete() bool { return r.from == Complete }

// KeepsComplete reports whether a run of selected stages with this configuration
// can restore the marker: the host was complete with the same one until this run
// retired the marker.
func (r *Run) KeepsComplete(configDigest string) bool {
	return r.start == StartSelected && r.ours && r.retired.ConfigDigest == configDigest
}

// End determines the state after the run. RunPassed is legal for a whole run
// only, MarkerRestored only after KeepsComplete.
func (r *Run) End(e Event) (State, error) {
	selected := r.start == StartSelected
	illegal := e == RunPassed && selected || e == SelectedPassed && !selected || e == MarkerRestored && (!selected || !r.ours)
	next, err := Next(r.state, e)
	if illegal {
		err = &TransitionError{r.state, e}
	}
	if err == nil {
		r.state = next
	}
	return r.state, err
}

// Commit writes the marker after End returned Complete. It must follow the last
// Save.
func (r *Run) Commit(j Journal) error {
	h := r.records.host
	switch {
	case r.state != Complete:
		return &TransitionError{r.state, "write the completion marker"}
	case r.start == StartSelected:
		return h.Rename(RetiredPath, MarkerPath)
	}
	marker := Marker{
		Version: j.Version, ConfigDigest: j.ConfigDigest, Machine: r.records.self, BootID: j.BootID,
		Started: j.Started, Finished: j.Finished,
	}
	return marker.save(h, r.retired)
}

// Fail records that Commit failed: the host is not complete.
func (r *Run) Fail() { r.state = Failed }

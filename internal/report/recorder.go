package report

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

// waitSaveInterval is the least time between two saves of a wait in which only
// the time changed.
const waitSaveInterval = 5 * time.Second

// maxWarnings bounds the warnings that are kept of one stage.
const maxWarnings = 20

// maxDifferences bounds the findings that are kept of one stage.
const maxDifferences = 50

// Recorder writes the events of a run to the journal, at each change of state.
// Only what a run needs after a power cut is written durably.
type Recorder struct {
	mu       sync.Mutex
	journal  state.Journal
	writer   JournalWriter
	onError  func(error)
	reported bool // onError was called
	saved    time.Time
}

// JournalWriter writes a run's journal; *state.Run is one.
type JournalWriter interface {
	// Save writes the journal durably, which takes time.
	Save(j *state.Journal) error
	// SaveProgress writes the journal for the commands of this boot.
	SaveProgress(j *state.Journal) error
}

// NewRecorder starts with j. If saving fails (a full disk), the first error is
// passed to onError and the run continues: the stages can still succeed.
func NewRecorder(j state.Journal, w JournalWriter, onError func(error)) *Recorder {
	return &Recorder{journal: j, writer: w, onError: onError}
}

// Event records one event (engine.Options.Events).
func (r *Recorder) Event(e engine.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.record(r.journal.Stage(e.Stage), e) {
		r.write(e.Time)
	}
}

// record updates s from e and reports whether the journal must be saved.
func (r *Recorder) record(s *state.Stage, e engine.Event) bool {
	s.Attempts = max(s.Attempts, e.Attempt)
	switch e.Kind {
	case engine.Started:
		*s = state.Stage{Name: s.Name, State: state.StageRunning, Attempts: 1, Started: e.Time.UTC()}
	case engine.Applying:
		clearWait(s)
	case engine.Waiting:
		return r.waiting(s, e)
	case engine.Retrying:
		clearWait(s)
		s.Error, s.Hint, s.NextRetry = clean(errorText(e.Err)), clean(engine.Hint(e.Err)), e.Next.UTC()
	case engine.Warned:
		if text := clean(e.Message); !slices.Contains(s.Warnings, text) && len(s.Warnings) < maxWarnings {
			s.Warnings = append(s.Warnings, text)
		}
	case engine.Done:
		clearWait(s)
		s.State = state.StageOK
		if e.Changed {
			s.State = state.StageChanged
		}
	case engine.Failed:
		failed(s, e)
	case engine.Stopped:
		clearWait(s)
		s.State, s.Error = state.StageSkipped, clean(errorText(e.Err))
	case engine.Interrupted:
		clearWait(s)
		s.State, s.Error = state.StagePending, interruptedText
	case engine.Skipped:
		clearWait(s)
		s.State, s.Error = state.StageSkipped, e.Message+" is not done"
	default:
		return false
	}
	if !s.Started.IsZero() {
		s.Seconds = Seconds(e.Time.Sub(s.Started))
	}
	return true
}

// clearWait removes a wait or retry that is over.
func clearWait(s *state.Stage) {
	s.Error, s.Hint, s.WaitsFor = "", "", ""
	s.WaitSince, s.NextRetry = time.Time{}, time.Time{}
}

func (r *Recorder) waiting(s *state.Stage, e engine.Event) bool {
	text := ""
	if e.Err != nil {
		text = clean(e.Err.Error())
	}
	changed := s.WaitsFor != clean(e.Message) || s.Error != text
	clearWait(s)
	s.WaitsFor, s.Error, s.Hint = clean(e.Message), text, clean(engine.Hint(e.Err))
	s.WaitSince, s.NextRetry = e.Since.UTC(), e.Next.UTC()
	s.Seconds = Seconds(e.Time.Sub(s.Started))
	return changed || e.Time.Sub(r.saved) >= waitSaveInterval
}

// interruptedText is the error of a stage that a signal interrupted. The stage
// did not fail; the next run repeats it.
const interruptedText = "interrupted"

func failed(s *state.Stage, e engine.Event) {
	waitedFor, lastError := s.WaitsFor, s.Error
	clearWait(s)
	s.State, s.Error, s.Hint = state.StageFailed, clean(errorText(e.Err)), clean(engine.Hint(e.Err))
	if refusal := (*engine.Refusal)(nil); errors.As(e.Err, &refusal) {
		all := refusal.Findings
		s.Differences = differences(all[:min(len(all), maxDifferences)])
	}
	if waitedFor != "" && errors.Is(e.Err, context.DeadlineExceeded) {
		s.Error = "waited for " + waitedFor + ": " + lastError + "; " + s.Error
	}
}

// write saves the progress of the stages.
func (r *Recorder) write(now time.Time) {
	r.saved = now
	if err := r.saveProgress(); err != nil && !r.reported {
		r.reported = true
		r.onError(err)
	}
}

// saveProgress writes the journal for the commands of this boot, durably if it
// cannot be written otherwise.
func (r *Recorder) saveProgress() error {
	if r.writer.SaveProgress(&r.journal) == nil {
		return nil
	}
	return r.writer.Save(&r.journal)
}

// Change alters the journal and saves it durably.
func (r *Recorder) Change(change func(*state.Journal)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.journal)
	return r.writer.Save(&r.journal)
}

// Journal returns a copy of the journal.
func (r *Recorder) Journal() state.Journal {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.journal
	j.Stages = slices.Clone(j.Stages)
	for i := range j.Stages {
		s := &j.Stages[i]
		s.Warnings, s.Differences = slices.Clone(s.Warnings), slices.Clone(s.Differences)
	}
	return j
}

// Notes returns the journal's notes.
func (r *Recorder) Notes() state.Notes { return r.Journal().Notes }

// SetNotes changes the notes and saves them. Only the mode of the network is saved
// durably: after a power cut a run could decide otherwise. The other notes are of
// this boot, or the next run finds out again what they record.
func (r *Recorder) SetNotes(change func(*state.Notes)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	mode := r.journal.Notes.Network
	change(&r.journal.Notes)
	if r.journal.Notes.Network != mode {
		return r.writer.Save(&r.journal)
	}
	return r.saveProgress()
}

// ReadOnlyNotes gives a journal's notes to stages that are only checked.
type ReadOnlyNotes struct{ Journal state.Journal }

// Notes returns the journal's notes.
func (r ReadOnlyNotes) Notes() state.Notes { return r.Journal.Notes }

// SetNotes always returns an error.
func (r ReadOnlyNotes) SetNotes(func(*state.Notes)) error {
	return errors.New("cannot change the notes: this command only checks")
}

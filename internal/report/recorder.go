package report

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

// waitSaves is the least time between two savings of a wait in which nothing
// changed but the clock.
const waitSaves = 5 * time.Second

// maxWarnings bounds the warnings that are kept of one stage.
const maxWarnings = 20

// Recorder writes a run's events into the journal, at each change of a state.
type Recorder struct {
	mu      sync.Mutex
	journal state.Journal
	save    func(*state.Journal) error
	trouble func(error)
	told    bool
	saved   time.Time
}

// NewRecorder keeps j. A saving that fails (a full disk) is told to trouble
// once and does not end the run: the machine can still become right.
func NewRecorder(j state.Journal, save func(*state.Journal) error, trouble func(error)) *Recorder {
	return &Recorder{journal: j, save: save, trouble: trouble}
}

// Event records one event (engine.Options.Events).
func (r *Recorder) Event(e engine.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.record(r.journal.Stage(e.Stage), e) {
		r.write(e.Time)
	}
}

// record takes e into s and tells whether that is worth a saving.
func (r *Recorder) record(s *state.Stage, e engine.Event) bool {
	s.Attempts = max(s.Attempts, e.Attempt)
	switch e.Kind {
	case engine.Started:
		*s = state.Stage{Name: s.Name, State: state.StageRunning, Attempts: 1, Started: e.Time.UTC()}
	case engine.Applying:
		settle(s)
	case engine.Waiting:
		return r.waits(s, e)
	case engine.Retrying:
		settle(s)
		s.Error, s.Hint, s.NextRetry = clean(errorText(e.Err)), clean(engine.Hint(e.Err)), e.Next.UTC()
	case engine.Warned:
		if text := clean(e.Message); !slices.Contains(s.Warnings, text) && len(s.Warnings) < maxWarnings {
			s.Warnings = append(s.Warnings, text)
		}
	case engine.Done:
		settle(s)
		s.State = state.StageOK
		if e.Changed {
			s.State = state.StageChanged
		}
	case engine.Failed:
		r.failed(s, e)
	case engine.Skipped:
		r.skipped(s, e.Message)
	default:
		return false
	}
	if !s.Started.IsZero() {
		s.Seconds = seconds(e.Time.Sub(s.Started))
	}
	return true
}

// settle forgets a wait or a retry that is over.
func settle(s *state.Stage) {
	s.Error, s.Hint, s.WaitsFor = "", "", ""
	s.WaitSince, s.NextRetry = time.Time{}, time.Time{}
}

func (r *Recorder) waits(s *state.Stage, e engine.Event) bool {
	text := ""
	if e.Err != nil {
		text = clean(e.Err.Error())
	}
	news := s.WaitsFor != clean(e.Message) || s.Error != text
	settle(s)
	s.WaitsFor, s.Error, s.Hint = clean(e.Message), text, clean(engine.Hint(e.Err))
	s.WaitSince, s.NextRetry = e.Since.UTC(), e.Next.UTC()
	s.Seconds = seconds(e.Time.Sub(s.Started))
	return news || e.Time.Sub(r.saved) >= waitSaves
}

// interruptedText is the error of a stage that was cut off by a signal: it did
// not fail and is tried again.
const interruptedText = "interrupted"

func (r *Recorder) failed(s *state.Stage, e engine.Event) {
	waitedFor, seen := s.WaitsFor, s.Error
	settle(s)
	s.State, s.Error, s.Hint = state.StageFailed, clean(errorText(e.Err)), clean(engine.Hint(e.Err))
	switch {
	case stopped(e.Err):
		s.State, s.Error = state.StagePending, interruptedText
	case engine.Interrupted(e.Err) && waitedFor != "":
		s.Error = "waited for " + waitedFor + ": " + seen + "; " + s.Error
	}
}

func (r *Recorder) skipped(s *state.Stage, need string) {
	settle(s)
	if before := r.journal.Stage(need); before.State == state.StagePending {
		return // cut off before its turn came
	}
	s = r.journal.Stage(s.Name) // asking for another can have moved it
	s.State, s.Error = state.StageSkipped, need+" is not done"
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// write saves the journal.
func (r *Recorder) write(now time.Time) {
	r.saved = now
	if err := r.save(&r.journal); err != nil && !r.told {
		r.told = true
		r.trouble(err)
	}
}

// Change alters the journal and saves it.
func (r *Recorder) Change(change func(*state.Journal)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.journal)
	return r.save(&r.journal)
}

// Journal is the journal as it is now.
func (r *Recorder) Journal() state.Journal {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.journal
	j.Stages = slices.Clone(j.Stages)
	return j
}

// Notes are the journal's notes.
func (r *Recorder) Notes() state.Notes { return r.Journal().Notes }

// SetNotes changes the notes and saves them.
func (r *Recorder) SetNotes(change func(*state.Notes)) error {
	return r.Change(func(j *state.Journal) { change(&j.Notes) })
}

// ReadOnly gives the notes of a journal to stages that only look.
type ReadOnly struct{ Journal state.Journal }

// Notes are the journal's notes.
func (r ReadOnly) Notes() state.Notes { return r.Journal.Notes }

// SetNotes refuses.
func (r ReadOnly) SetNotes(func(*state.Notes)) error {
	return errors.New("cannot note anything: this command only looks")
}

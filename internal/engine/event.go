package engine

import "time"

// Kind is what happened to a stage.
type Kind string

// The kinds of events, in the order in which a stage can meet them.
const (
	Started    Kind = "started"  // the first check begins
	Applying   Kind = "applying" // something differs; Findings says what
	Progressed Kind = "progress" // a long step moved on; Done and Total are set
	Waiting    Kind = "waiting"  // only time is needed; Next says when it is tried again
	Retrying   Kind = "retrying" // an attempt failed; Next says when the next one is
	Warned     Kind = "warning"  // Message is the warning
	Done       Kind = "done"     // Changed says whether anything had to be applied
	Failed     Kind = "failed"   // Err says why
	Skipped    Kind = "skipped"  // a stage before it failed; Message names it
)

// Event is one thing that happened in a run.
type Event struct {
	Time    time.Time
	Stage   string
	Kind    Kind
	Attempt int // from 1
	Changed bool
	Message string
	Err     error
	Since   time.Time // since when the stage runs; for Waiting, since when it waits
	Next    time.Time // of the next try
	Done    int64
	Total   int64
	Check   CheckResult
}

// Elapsed is the time from Since to the event.
func (e Event) Elapsed() time.Duration { return e.Time.Sub(e.Since) }

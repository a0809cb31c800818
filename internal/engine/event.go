package engine

import "time"

// Kind is the kind of an event.
type Kind string

// The kinds of events, in the order in which they can occur in a stage.
const (
	Started    Kind = "started"  // the first check begins
	Applying   Kind = "applying" // the check found differences; Check holds them
	Progressed Kind = "progress" // a long step advanced; Done and Total are set
	Waiting    Kind = "waiting"  // the stage waits; Message names for what, Next is the time of the next attempt
	Retrying   Kind = "retrying" // an attempt failed; Next is the time of the next one
	Warned     Kind = "warning"  // Message is the warning
	Done       Kind = "done"     // Changed reports whether anything had to be applied
	Failed     Kind = "failed"   // Err is the reason
	// Stopped: the stage waited, and the run cannot succeed because another stage
	// failed; Err is a *StoppedError.
	Stopped Kind = "stopped"
	// Interrupted: the run was canceled; Err is the cause.
	Interrupted Kind = "interrupted"
	Skipped     Kind = "skipped" // a stage before it failed; Message names it
)

// Event is one event of a run.
type Event struct {
	Time    time.Time
	Stage   string
	Kind    Kind
	Attempt int // from 1
	Changed bool
	Message string
	Err     error
	Since   time.Time // the start of the stage; for Waiting, the start of the wait
	Next    time.Time // of the next attempt
	Done    int64
	Total   int64
	Check   CheckResult
}

// Elapsed returns the time from Since to the event.
func (e Event) Elapsed() time.Duration { return e.Time.Sub(e.Since) }

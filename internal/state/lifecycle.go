package state

import "fmt"

// State is the state of a host, in the words of `firstboot status`.
type State string

// The states of a host. Exactly one holds at any time, and only an Event changes
// it. Records.Read determines it from the state files.
const (
	NotStarted State = "not-started" // no run has started, or only selected stages were run
	Running    State = "running"     // a run is in progress, or was killed
	Refused    State = "refused"     // preflight found problems
	Failed     State = "failed"
	Complete   State = "complete" // the last check of every stage passed
	Retired    State = "retired"  // was complete, until a run retired the marker and was killed
	Leaving    State = "leaving"  // leave has started and has not finished
	Left       State = "left"
	Foreign    State = "foreign" // the files belong to another machine
	Damaged    State = "damaged" // a file cannot be read or parsed
)

// Only status reports these, after it checked the machine.
const (
	Drifted State = "drifted"
	Unknown State = "unknown"
)

// Event is what a command does to the state of a host.
type Event string

// The events.
const (
	StartRun       Event = "run"          // all stages, requested by a person
	StartAtBoot    Event = "run at boot"  // all stages, started by systemd
	StartForced    Event = "run --force"  // all stages, with the configuration read again
	StartSelected  Event = "run --stage"  // selected stages only
	RunPassed      Event = "run passed"   // the last check of every stage passed
	SelectedPassed Event = "stages done"  // the last check of every selected stage passed
	MarkerRestored Event = "unchanged"    // selected stages kept a complete host complete
	RunFailed      Event = "run failed"   // or was interrupted
	RunRefused     Event = "run refused"  // preflight found problems
	RunRejected    Event = "run rejected" // the command line was wrong; no stage started
	StartLeave     Event = "leave"
	FinishLeave    Event = "leave done"
	SetAside       Event = "set aside" // foreign or damaged files were moved
	Seal           Event = "seal"
)

// transitions are the legal transitions. A transition that is not in the table
// is an error.
func transitions() map[State]map[Event]State {
	incomplete := map[Event]State{
		StartRun: Running, StartAtBoot: Running, StartForced: Running, StartSelected: Running,
		StartLeave: Leaving, Seal: NotStarted,
	}
	return map[State]map[Event]State{
		NotStarted: incomplete,
		Refused:    incomplete,
		Failed:     incomplete,
		Retired:    incomplete,
		Running: {
			RunPassed: Complete, SelectedPassed: NotStarted, MarkerRestored: Complete,
			RunFailed: Failed, RunRefused: Refused, RunRejected: NotStarted,
			// The run was killed.
			StartRun: Running, StartAtBoot: Running, StartForced: Running, StartSelected: Running,
			StartLeave: Leaving, Seal: NotStarted,
		},
		Complete: {StartForced: Running, StartSelected: Running, StartLeave: Leaving, Seal: NotStarted},
		// Only a whole run that a person requests ends these two states.
		Leaving: {
			StartRun: Running, StartForced: Running, StartLeave: Leaving, FinishLeave: Left, Seal: NotStarted,
			StartSelected: Leaving, SelectedPassed: Leaving, RunFailed: Leaving, RunRefused: Leaving, RunRejected: Leaving,
		},
		Left: {
			StartRun: Running, StartForced: Running, StartLeave: Left, FinishLeave: Left, Seal: NotStarted,
			StartSelected: Left, SelectedPassed: Left, RunFailed: Left, RunRefused: Left, RunRejected: Left,
		},
		Foreign: {SetAside: NotStarted, Seal: NotStarted},
		Damaged: {SetAside: NotStarted, Seal: NotStarted},
	}
}

// Next returns the state that follows s after e, or a *TransitionError.
func Next(s State, e Event) (State, error) {
	next, ok := transitions()[s][e]
	if !ok {
		return s, &TransitionError{s, e}
	}
	return next, nil
}

// TransitionError reports an event that is not legal in the state of the host.
type TransitionError struct {
	State State
	Event Event
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("the state of this host is %s, which does not permit: %s", e.State, e.Event)
}

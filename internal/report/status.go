package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/state"
)

// Status is what is true of this machine. Its JSON names are fixed; scripts
// hold on to them. Times are UTC, and null where there is none.
type Status struct {
	State        state.State   `json:"state"`
	Version      string        `json:"version"` // of the firstboot that made the machine so; else of this one
	ConfigDigest string        `json:"config_digest"`
	Machine      string        `json:"machine"`
	Attempt      int           `json:"attempt"`
	Started      *time.Time    `json:"started"`
	Finished     *time.Time    `json:"finished"`
	Stages       []StageStatus `json:"stages"`

	Error string   `json:"error,omitempty"` // of a run that did not come to its stages, or of looking
	Hint  string   `json:"hint,omitempty"`
	PID   int      `json:"pid,omitempty"`   // of the run that holds the lock
	Notes []string `json:"notes,omitempty"` // what else is worth knowing
	Advice
}

// StageStatus is what is true of one stage.
type StageStatus struct {
	Name      string           `json:"name"`
	State     state.StageState `json:"state"`
	Attempts  int              `json:"attempts"`
	Seconds   float64          `json:"seconds"`
	Error     string           `json:"error"`
	Hint      string           `json:"hint"`
	NextRetry *time.Time       `json:"next_retry"`
	WaitsFor  string           `json:"waits_for,omitempty"`
	WaitSince *time.Time       `json:"wait_since,omitempty"`
	Warnings  []string         `json:"warnings,omitempty"`
}

// FromJournal is the status that a journal tells, its stages in the order of
// names; stages that it does not know are pending.
func FromJournal(j state.Journal, names []string) Status {
	s := Status{
		State: j.State, Version: j.Version, ConfigDigest: j.ConfigDigest, Machine: j.Machine.String(),
		Attempt: j.Attempt, Started: instant(j.Started), Finished: instant(j.Finished), Error: j.Error,
		Stages: []StageStatus{},
	}
	known := map[string]state.Stage{}
	for _, stage := range j.Stages {
		known[stage.Name] = stage
	}
	for _, name := range names {
		stage, ok := known[name]
		if !ok {
			stage = state.Stage{Name: name, State: state.StagePending}
		}
		s.Stages = append(s.Stages, stageStatus(stage))
	}
	return s
}

func stageStatus(s state.Stage) StageStatus {
	return StageStatus{
		Name: s.Name, State: s.State, Attempts: s.Attempts, Seconds: s.Seconds, Error: s.Error, Hint: s.Hint,
		NextRetry: instant(s.NextRetry), WaitsFor: s.WaitsFor, WaitSince: instant(s.WaitSince), Warnings: s.Warnings,
	}
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// meaning is a state in a sentence.
func meaning(s state.State) string {
	switch s {
	case state.Complete:
		return "this host is a member of its Calico network"
	case state.Running:
		return "a run is under way"
	case state.Refused:
		return "the machine must not be touched as it is"
	case state.Failed:
		return "the last run did not get through"
	case state.NotStarted:
		return "this host was not made complete yet, and no run is under way"
	case state.Drifted:
		return "this host was complete once, and is not what it should be now"
	case state.Foreign:
		return "the completion marker belongs to another machine"
	}
	return "it cannot be told whether this host is what it should be"
}

// WriteText shows the status to people: the state first, then the stages with
// their errors, then what happens next and what to type.
func (s Status) WriteText(w io.Writer, term Terminal, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", term.paint(stateColour(s.State), string(s.State)), meaning(s.State))
	s.facts(&b)
	if s.Error != "" {
		fmt.Fprintf(&b, "  error: %s\n", s.Error)
	}
	if s.Hint != "" {
		fmt.Fprintf(&b, "  hint: %s\n", s.Hint)
	}
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "  note: %s\n", note)
	}
	b.WriteByte('\n')
	s.table(&b, term, now)
	if s.Next != "" || len(s.Type) > 0 {
		b.WriteByte('\n')
		writeAdvice(&b, s.Advice)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// facts is who and when, in one line each.
func (s Status) facts(b *strings.Builder) {
	fmt.Fprintf(b, "  machine %s, firstboot %s", s.Machine, s.Version)
	if s.ConfigDigest != "" {
		fmt.Fprintf(b, ", configuration %s", short(s.ConfigDigest))
	}
	b.WriteByte('\n')
	if s.Started == nil {
		return
	}
	fmt.Fprintf(b, "  attempt %d, started %s", s.Attempt, s.Started.Format(time.RFC3339))
	if s.Finished != nil {
		fmt.Fprintf(b, ", finished %s (%s)", s.Finished.Format(time.RFC3339), Elapsed(s.Finished.Sub(*s.Started)))
	}
	if s.PID > 0 {
		fmt.Fprintf(b, ", pid %d", s.PID)
	}
	b.WriteByte('\n')
}

// short is a digest's beginning: enough to tell two apart.
func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }

func (s Status) table(b *strings.Builder, term Terminal, now time.Time) {
	width := len("STAGE")
	for _, stage := range s.Stages {
		width = max(width, len(stage.Name))
	}
	fmt.Fprintf(b, "%-*s  %-8s  %7s  %s\n", width, "STAGE", "STATE", "TIME", "TRIES")
	for _, stage := range s.Stages {
		colour := stageColour(stage.State)
		took, tries := "-", "-"
		if stage.Attempts > 0 {
			took, tries = Elapsed(time.Duration(stage.Seconds*float64(time.Second))), fmt.Sprint(stage.Attempts)
		}
		fmt.Fprintf(b, "%-*s  %s  %7s  %s\n", width, stage.Name,
			term.paint(colour, fmt.Sprintf("%-8s", stage.State)), took, tries)
		for _, line := range stage.lines(now) {
			fmt.Fprintf(b, "%*s  %s\n", width, "", line)
		}
	}
}

// lines is what is to be said about a stage below its row.
func (s StageStatus) lines(now time.Time) []string {
	var lines []string
	if s.WaitsFor != "" && s.WaitSince != nil {
		lines = append(lines, fmt.Sprintf("waiting for %s since %s (%s)", s.WaitsFor,
			s.WaitSince.Format(time.RFC3339), whole(now.Sub(*s.WaitSince))))
	}
	if s.Error != "" {
		label := "error: "
		switch s.State {
		case state.StageRunning:
			label = "seen: "
		case state.StageSkipped, state.StagePending:
			label = ""
		}
		lines = append(lines, label+s.Error)
	}
	if s.Hint != "" {
		lines = append(lines, "hint: "+s.Hint)
	}
	if s.NextRetry != nil && s.State == state.StageRunning && s.NextRetry.After(now) {
		lines = append(lines, "next try in "+whole(s.NextRetry.Sub(now)))
	}
	for _, w := range s.Warnings {
		lines = append(lines, "warning: "+w)
	}
	return lines
}

func stateColour(s state.State) string {
	switch s {
	case state.Complete:
		return green
	case state.Failed, state.Refused, state.Drifted:
		return red
	}
	return yellow
}

func stageColour(s state.StageState) string {
	switch s {
	case state.StageOK, state.StageChanged:
		return green
	case state.StageFailed:
		return red
	case state.StageRunning, state.StageUnknown:
		return yellow
	}
	return dim
}

package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

// Status is the current state of this machine. Its JSON keys are fixed: scripts
// rely on them. Times are UTC, or null.
type Status struct {
	State        state.State   `json:"state"`
	Version      string        `json:"version"` // of the firstboot of the last run; else of this one
	ConfigDigest string        `json:"config_digest"`
	Machine      string        `json:"machine"`
	Attempt      int           `json:"attempt"`
	Started      *time.Time    `json:"started"`
	Finished     *time.Time    `json:"finished"`
	Stages       []StageStatus `json:"stages"`

	Error string   `json:"error,omitempty"` // of the run as a whole, or of reading the status
	Hint  string   `json:"hint,omitempty"`
	PID   int      `json:"pid,omitempty"`   // of the run that holds the lock
	Notes []string `json:"notes,omitempty"` // further remarks
	// Network is the mode of the Docker network, local or global, and in
	// parentheses why. It is empty until preflight has decided.
	Network string `json:"network,omitempty"`
	Advice
}

// StageStatus is the current state of one stage.
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

	Differences []state.Difference `json:"differences,omitempty"`
}

// SetCheck replaces what was recorded about the stage by the result of a check
// that found these differences, or else by the error of the check.
func (s *StageStatus) SetCheck(found []engine.Difference, err error) {
	s.Error, s.Hint, s.NextRetry, s.Differences = "", "", nil, nil
	switch {
	case len(found) > 0:
		s.State, s.Error, s.Hint, s.Differences = state.StageFailed, summary(found), clean(engine.Fixes(found)), differences(found)
	case err != nil:
		s.State, s.Error, s.Hint = state.StageUnknown, clean(err.Error()), clean(engine.Hint(err))
	case s.State != state.StageChanged:
		s.State = state.StageOK
	}
}

// FromJournal returns the status that a journal records, with the stages in the
// order of names. A stage that the journal does not have is pending.
func FromJournal(j state.Journal, names []string) Status {
	s := Status{
		State: j.State, Version: j.Version, ConfigDigest: j.ConfigDigest, Machine: j.Machine.String(),
		Attempt: j.Attempt, Started: instant(j.Started), Finished: instant(j.Finished), Error: j.Error,
		Stages: []StageStatus{}, Network: clean(j.Notes.Network.String()),
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
		Differences: s.Differences,
	}
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// describe explains a state in one sentence.
func describe(s state.State) string {
	switch s {
	case state.Complete:
		return "this host is a member of its Calico network"
	case state.Running:
		return "a run is in progress"
	case state.Refused:
		return "preflight found problems"
	case state.Failed:
		return "this host is not complete"
	case state.NotStarted:
		return "this host is not complete, and no run is in progress"
	case state.Drifted:
		return "this host was complete and has changed since"
	case state.Foreign:
		return "the completion marker belongs to another machine"
	case state.Left:
		return "this host has left the network"
	}
	return "cannot determine the state of this host"
}

// WriteText writes the status for people: the state, the stages with their
// errors, what happens next and what to type.
func (s Status) WriteText(w io.Writer, term Terminal, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", term.paint(stateColour(s.State), string(s.State)), describe(s.State))
	s.writeHeader(&b)
	if s.Error != "" {
		wrap(&b, "  ", "error: "+s.Error, term.width())
	}
	if s.Hint != "" {
		wrap(&b, "  ", "hint: "+s.Hint, term.width())
	}
	for _, note := range s.Notes {
		wrap(&b, "  ", "note: "+note, term.width())
	}
	b.WriteByte('\n')
	s.writeTable(&b, term, now)
	if s.Next != "" || len(s.Type) > 0 {
		b.WriteByte('\n')
		writeAdvice(&b, s.Advice, term.width())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeHeader writes the machine and the attempt, on one line each.
func (s Status) writeHeader(b *strings.Builder) {
	fmt.Fprintf(b, "  machine %s, firstboot %s", s.Machine, s.Version)
	if s.ConfigDigest != "" {
		fmt.Fprintf(b, ", configuration %s", short(s.ConfigDigest))
	}
	b.WriteByte('\n')
	if s.Network != "" {
		fmt.Fprintf(b, "  network: %s\n", s.Network)
	}
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

// short returns the beginning of a digest, enough to distinguish two.
func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }

func (s Status) writeTable(b *strings.Builder, term Terminal, now time.Time) {
	width := len("STAGE")
	for _, stage := range s.Stages {
		width = max(width, len(stage.Name))
	}
	fmt.Fprintf(b, "%-*s  %-8s  %7s  %s\n", width, "STAGE", "STATE", "TIME", "ATTEMPTS")
	for _, stage := range s.Stages {
		colour := stageColour(stage.State)
		took, attempts := "-", "-"
		if stage.Attempts > 0 {
			took, attempts = Elapsed(time.Duration(stage.Seconds*float64(time.Second))), fmt.Sprint(stage.Attempts)
		}
		fmt.Fprintf(b, "%-*s  %s  %7s  %s\n", width, stage.Name,
			term.paint(colour, fmt.Sprintf("%-8s", stage.State)), took, attempts)
		for _, line := range stage.lines(now) {
			text := strings.TrimLeft(line, " ")
			wrap(b, strings.Repeat(" ", width+2+len(line)-len(text)), text, term.width())
		}
	}
}

// lines are the details below a stage's row.
func (s StageStatus) lines(now time.Time) []string {
	var lines []string
	if s.WaitsFor != "" && s.WaitSince != nil {
		lines = append(lines, fmt.Sprintf("waiting for %s since %s (%s)", s.WaitsFor,
			s.WaitSince.Format(time.RFC3339), wholeSeconds(now.Sub(*s.WaitSince))))
	}
	lines = append(lines, s.cause()...)
	if s.NextRetry != nil && s.State == state.StageRunning && s.NextRetry.After(now) {
		lines = append(lines, "next attempt in "+wholeSeconds(s.NextRetry.Sub(now)))
	}
	for _, w := range s.Warnings {
		lines = append(lines, "warning: "+w)
	}
	return lines
}

// cause states why the stage is not done: its differences, each with its fix,
// or else its error and hint.
func (s StageStatus) cause() []string {
	var lines []string
	for _, d := range s.Differences {
		lines = append(lines, "error: "+differenceLine(d))
		if d.Fix != "" {
			lines = append(lines, "  fix: "+d.Fix)
		}
	}
	if len(lines) > 0 {
		return lines
	}
	if s.Error != "" {
		label := "error: "
		switch s.State {
		case state.StageRunning:
			label = "last error: "
		case state.StageSkipped, state.StagePending:
			label = ""
		}
		lines = append(lines, label+s.Error)
	}
	if s.Hint != "" {
		lines = append(lines, "hint: "+s.Hint)
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

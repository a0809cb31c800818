package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// Checks are the results of all stages' checks, for plan and verify.
type Checks struct {
	Differing int          `json:"differing"` // stages with differences
	Unknown   int          `json:"unknown"`   // stages that could not be checked
	Stages    []StageCheck `json:"stages"`
	Notes     []string     `json:"notes,omitempty"` // further remarks
	// Network is the mode of the Docker network, local or global, and in
	// parentheses why. It is empty if it is unknown.
	Network string `json:"network,omitempty"`
}

// The states of a checked stage.
const (
	checkedOK      = "ok"
	checkedDiffers = "differs"
	checkedUnknown = "unknown"
	checkedOffline = "offline" // needs the running machine; not counted
)

// StageCheck is the result of one stage's check.
type StageCheck struct {
	Name        string       `json:"name"`
	State       string       `json:"state"` // ok, differs, unknown or offline
	Differences []Difference `json:"differences,omitempty"`
	Warnings    []string     `json:"warnings,omitempty"`
	Error       string       `json:"error,omitempty"`
	Hint        string       `json:"hint,omitempty"`

	stops bool // a run would end here and change nothing
}

// Difference is a difference with the unified diff of a file.
type Difference struct {
	state.Difference
	Diff string `json:"diff,omitempty"`
}

// differences converts the differences of a check for output.
func differences(all []engine.Difference) []state.Difference {
	var out []state.Difference
	for _, d := range all {
		out = append(out, state.Difference{
			Name: d.Name, Object: clean(d.Object), Actual: clean(d.Actual), Expected: clean(d.Expected), Fix: clean(d.Fix),
		})
	}
	return out
}

// differenceLine formats a difference as one line.
func differenceLine(d state.Difference) string {
	line := engine.Difference{Object: d.Object, Actual: d.Actual, Expected: d.Expected}.String()
	if d.Name != "" {
		line = d.Name + ": " + line
	}
	return line
}

// Add adds one result.
func (c *Checks) Add(r engine.Result) {
	checked := StageCheck{Name: r.Stage, State: checkedOK, Warnings: r.Check.Warnings}
	for i, d := range differences(r.Check.Differences) {
		checked.Differences = append(checked.Differences, Difference{d, r.Check.Differences[i].Diff})
	}
	if r.Err != nil {
		checked.Error, checked.Hint = clean(r.Err.Error()), clean(engine.Hint(r.Err))
	}
	switch {
	case len(checked.Differences) > 0:
		checked.State, checked.stops = checkedDiffers, !slices.ContainsFunc(r.Check.Differences, func(d engine.Difference) bool { return !d.Stops })
		c.Differing++
	case errors.Is(r.Err, host.ErrOffline):
		checked.State, checked.Error = checkedOffline, ""
	case r.Err != nil:
		checked.State = checkedUnknown
		c.Unknown++
	}
	c.Stages = append(c.Stages, checked)
}

// WriteText writes the checks for people. labels names the states: what plan
// calls "would change" is "differs" in verify.
func (c Checks) WriteText(w io.Writer, term Terminal, labels Labels) error {
	var b strings.Builder
	width := 0
	for _, s := range c.Stages {
		width = max(width, len(s.Name))
	}
	for _, s := range c.Stages {
		fmt.Fprintf(&b, "%-*s  %s\n", width, s.Name, s.title(term, labels))
		s.details(&b, term)
	}
	b.WriteByte('\n')
	if c.Network != "" {
		wrap(&b, "", "network: "+clean(c.Network), term.width())
	}
	fmt.Fprintf(&b, "%s\n", labels.Summary(c))
	for _, note := range c.Notes {
		wrap(&b, "", "note: "+clean(note), term.width())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Labels are the words of a command for the states of a check.
type Labels struct {
	Differs string
	Stops   string // for a stage that only a person can fix; "" means Differs
	Summary func(Checks) string
}

// Stopping lists the stages at which a run would stop without a change.
func (c Checks) Stopping() []string {
	var names []string
	for _, s := range c.Stages {
		if s.stops {
			names = append(names, s.Name)
		}
	}
	return names
}

func (s StageCheck) title(term Terminal, labels Labels) string {
	switch s.State {
	case checkedOK:
		return term.paint(green, "ok")
	case checkedDiffers:
		if s.stops && labels.Stops != "" {
			return term.paint(red, labels.Stops)
		}
		return term.paint(yellow, labels.Differs)
	case checkedOffline:
		return term.paint(dim, "not checked: "+host.ErrOffline.Error())
	}
	return term.paint(red, "unknown") + ": " + s.Error
}

func (s StageCheck) details(b *strings.Builder, term Terminal) {
	for _, d := range s.Differences {
		wrap(b, "  ", differenceLine(d.Difference), term.width())
		if d.Fix != "" {
			wrap(b, "    ", "fix: "+d.Fix, term.width())
		}
		for diff := range strings.Lines(d.Diff) {
			b.WriteString("    " + paintDiff(term, strings.TrimRight(diff, "\n")) + "\n")
		}
	}
	if s.State == checkedDiffers && s.Error != "" {
		wrap(b, "  ", "not checked further: "+s.Error, term.width())
	}
	if s.Hint != "" {
		wrap(b, "  ", "hint: "+s.Hint, term.width())
	}
	for _, w := range s.Warnings {
		wrap(b, "  ", "warning: "+clean(w), term.width())
	}
}

// paintDiff colours a line of a unified diff and removes control characters,
// which a terminal could interpret.
func paintDiff(term Terminal, line string) string {
	line = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, line)
	switch {
	case strings.HasPrefix(line, "+"):
		return term.paint(green, line)
	case strings.HasPrefix(line, "-"):
		return term.paint(red, line)
	}
	return line
}

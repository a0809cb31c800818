// Package report produces what people see of firstboot: the console of a run,
// the message on the login screen, systemd's status line, and the status as text
// and JSON. It turns events and results into text. It makes no decisions and
// does not examine the machine.
//
// The output's contract, for every command:
//
//   - stdout has the command's result: a run's lines, a plan, a status. With
//     -o json it has exactly one JSON document and nothing else, even if the
//     command failed.
//   - stderr has errors ("firstboot: error: …") and how to fix them ("firstboot:
//     hint: …"), and with -o json a run's lines.
//   - Lines of a run begin with "firstboot: " and show stage, position and time.
//   - External text (a command's error, a server's response) is shown on one
//     line without control characters.
//   - Colours and redrawn lines appear only on terminals whose TERM supports
//     them; NO_COLOR turns colours off. Elsewhere each line is printed once.
//   - No output contains a secret.
package report

import (
	"errors"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/text"
)

// maxLine limits one line of external text, in bytes.
const maxLine = 1000

// clean puts external text on one line that is safe for a terminal: it could
// contain escape sequences, or lines that look like firstboot's.
func clean(s string) string { return text.LineOf(s, maxLine) }

// maxLines limits how much of one error is shown.
const maxLines = 20

// Explain formats an error as at least one line for people: what could not be
// done, one line per finding, each with its fix or hint. A nil error has none.
func Explain(err error) []string {
	var lines []string
	var refusal *engine.Refusal
	var run *engine.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &run):
		for _, name := range run.Order {
			stageLines := Explain(run.Stages[name])
			stageLines[0] = "stage " + name + ": " + stageLines[0]
			lines = append(lines, stageLines...)
		}
	case errors.As(err, &refusal):
		lines = append(lines, "refused:")
		for _, d := range refusal.Findings {
			lines = append(lines, explainDifference(d)...)
		}
	default:
		for line := range strings.Lines(err.Error()) {
			if line = clean(line); line != "" {
				lines = append(lines, line)
			}
		}
		if len(lines) == 0 {
			lines = append(lines, "unknown error")
		}
		if hint := engine.Hint(err); hint != "" {
			lines = append(lines, "hint: "+clean(hint))
		}
	}
	if n := len(lines) - maxLines; n > 1 {
		lines = append(lines[:maxLines], fmt.Sprintf("and %d more lines", n))
	}
	return lines
}

func explainDifference(d engine.Difference) []string {
	line := clean(d.String())
	if d.Name != "" {
		line = d.Name + ": " + line
	}
	lines := []string{line}
	if d.Fix != "" {
		lines = append(lines, "  fix: "+clean(d.Fix))
	}
	return lines
}

// Tee passes every event to each sink in turn.
func Tee(sinks ...func(engine.Event)) func(engine.Event) {
	return func(e engine.Event) {
		for _, sink := range sinks {
			sink(e)
		}
	}
}

// summary formats the differences as one line.
func summary(all []engine.Difference) string {
	var parts []string
	for _, d := range all {
		parts = append(parts, clean(d.String()))
	}
	return strings.Join(parts, "; ")
}

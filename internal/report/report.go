// Package report is what people see of firstboot: the console of a run, the
// message on the login screen, systemd's status line, and the status itself as
// text and JSON. It gets events and facts and turns them into words; it decides
// nothing and looks at nothing by itself.
//
// The output's contract, for every command:
//
//   - stdout has what was asked for: a run's lines, a plan, a status. With
//     -o json it has exactly one JSON document and nothing else, also when the
//     command failed.
//   - stderr has what went wrong ("firstboot: error: …") and what to do about it
//     ("firstboot: hint: …"), and with -o json a run's lines.
//   - Lines of a run begin with "firstboot: " and name stage, position and time.
//   - Text from elsewhere (a command's error, a server's answer) is shown
//     without control characters and on one line.
//   - Colour and moving lines are for terminals, without NO_COLOR and with a
//     TERM that can; everywhere else each line is printed once and stays.
//   - A secret is in none of it.
package report

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/projecteru2/firstboot/internal/engine"
)

// maxLine bounds one line of foreign text, in characters.
const maxLine = 1000

// clean makes text safe for a terminal and one line long: foreign text could
// carry escape sequences, or lines that look like ours.
func clean(text string) string {
	var b strings.Builder
	n, blank := 0, false
	for _, r := range strings.TrimSpace(text) {
		if unicode.IsSpace(r) || r == '\uFEFF' {
			blank = true
			continue
		}
		if !unicode.IsPrint(r) {
			continue
		}
		if blank {
			b.WriteByte(' ')
			blank = false
		}
		if n++; n > maxLine {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Elapsed is a duration for people: 0.4s, 12.3s, 2m5s, 3h2m.
func Elapsed(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
}

// whole is a duration in whole seconds, for waits.
func whole(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%ds", max(0, int(d.Round(time.Second).Seconds())))
	}
	return Elapsed(d)
}

// maxLines bounds how much of one error is shown.
const maxLines = 20

// Explain is an error as lines for people: what could not be done, one line a
// finding, each with what to do about it.
func Explain(err error) []string {
	var lines []string
	var refusal *engine.Refusal
	var run *engine.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &run):
		for _, name := range run.Order {
			of := Explain(run.Stages[name])
			of[0] = "stage " + name + ": " + of[0]
			lines = append(lines, of...)
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

// Tee hands every event to each sink in turn.
func Tee(sinks ...func(engine.Event)) func(engine.Event) {
	return func(e engine.Event) {
		for _, sink := range sinks {
			sink(e)
		}
	}
}

// Summary is what differs in one line, and what to do about the first that
// says so.
func Summary(all []engine.Difference) (text, hint string) {
	var parts []string
	for _, d := range all {
		parts = append(parts, clean(d.String()))
		if hint == "" {
			hint = clean(d.Fix)
		}
	}
	return strings.Join(parts, "; "), hint
}

package report_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// refusedStatus is the status after preflight has refused with three findings.
func refusedStatus() report.Status {
	j := state.Journal{State: state.Running, Started: epoch}
	r := report.NewRecorder(j, &fakeStore{}, func(error) {})
	long := strings.Repeat("a long explanation ", 20)
	refusal := &engine.Refusal{Findings: []engine.Difference{
		{Name: "clock", Object: "the clock", Actual: "1970", Expected: "2025 or later", Fix: "set the clock"},
		{Name: "bgp-port", Object: "port 179", Actual: "used by bgpd " + long, Fix: "stop bgpd"},
		{Name: "localhost", Object: "/etc/hosts", Actual: "missing", Fix: "create /etc/hosts"},
	}}
	r.Event(engine.Event{Stage: "preflight", Kind: engine.Started, Time: epoch})
	r.Event(engine.Event{Stage: "preflight", Kind: engine.Failed, Err: refusal, Time: epoch})
	j = r.Journal()
	j.State = state.Refused
	s := report.FromJournal(j, stages)
	s.Advice = report.Advise(state.Refused, report.Facts{Untouched: true})
	return s
}

func TestStatusShowsTheFixOfEveryFinding(t *testing.T) {
	var b bytes.Buffer
	if err := refusedStatus().WriteText(&b, report.Terminal{}, epoch); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"error: clock: the clock: 1970, expected 2025 or later\n             fix: set the clock\n",
		"error: bgp-port: port 179: used by bgpd", "\n             fix: stop bgpd\n",
		"error: localhost: /etc/hosts: missing\n             fix: create /etc/hosts\n",
	} {
		if strings.Count(b.String(), part) != 1 {
			t.Errorf("the status does not contain %q exactly once:\n%s", part, &b)
		}
	}
	if hint := refusedStatus().Stages[0].Hint; hint != "set the clock; stop bgpd; create /etc/hosts" {
		t.Errorf("hint %q", hint)
	}
}

func TestCheckShowsTheFixOfEveryDifference(t *testing.T) {
	s := report.FromJournal(state.Journal{State: state.Complete}, stages)
	s.Stages[1].SetCheck([]engine.Difference{
		{Object: "a", Actual: "1", Fix: "fix a"}, {Object: "b", Actual: "2", Fix: "fix b"}, {Object: "c", Actual: "3", Fix: "fix b"},
	}, errors.New("not shown"))
	var b bytes.Buffer
	if err := s.WriteText(&b, report.Terminal{}, epoch); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"error: a: 1\n", "fix: fix a\n", "error: b: 2\n", "error: c: 3\n", "fix: fix b\n"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("the status lacks %q:\n%s", part, &b)
		}
	}
	if s.Stages[1].Hint != "fix a; fix b" || s.Stages[1].Error != "a: 1; b: 2; c: 3" {
		t.Errorf("%+v", s.Stages[1])
	}
}

func TestLongLinesAreWrapped(t *testing.T) {
	for _, columns := range []int{0, 60, 140} {
		term, limit := report.Terminal{}, 100
		if columns > 0 {
			term.Width, limit = func() int { return columns }, columns
		}
		s := refusedStatus()
		s.Error, s.Notes = strings.Repeat("many words ", 30), []string{"/a/path/" + strings.Repeat("x", 200) + " is long"}
		var b bytes.Buffer
		if err := s.WriteText(&b, term, epoch); err != nil {
			t.Fatal(err)
		}
		checkWidth(t, b.String(), limit)
		if text := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(text, strings.TrimSpace(s.Error)) {
			t.Errorf("words were lost:\n%s", &b)
		}
		var checks report.Checks
		checks.Add(engine.Result{Stage: "x", Check: engine.CheckResult{
			Differences: []engine.Difference{{Object: "y", Actual: strings.Repeat("many words ", 30), Fix: strings.Repeat("do this ", 30)}},
			Warnings:    []string{strings.Repeat("take care ", 30)},
		}})
		b.Reset()
		if err := checks.WriteText(&b, term, report.Labels{Differs: "differs", Summary: func(report.Checks) string { return "end" }}); err != nil {
			t.Fatal(err)
		}
		checkWidth(t, b.String(), limit)
	}
}

// checkWidth reports lines that are too long, except commands and single words.
func checkWidth(t *testing.T, text string, limit int) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		isCommand := strings.HasPrefix(line, "type: ") || strings.HasPrefix(line, "  or: ")
		if utf8.RuneCountInString(line) > limit && !isCommand && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("%d columns, more than %d: %q", utf8.RuneCountInString(line), limit, line)
		}
	}
}

// FuzzStatusText verifies that no text of another program adds a line, a control
// character or an endless output to the status.
func FuzzStatusText(f *testing.F) {
	for _, seed := range []string{
		"connection refused", "a\nfirstboot: complete, 1s", "\x1b[2J\x1b]0;title\a", "\u202etxt", "\ufeff", "\xff\xfe", "a\u2028b\u2029c", "\x9b31m",
		strings.Repeat("x", 5000), strings.Repeat("a b ", 3000), "\r\rfirstboot: done", "\\n \\e{red}",
	} {
		f.Add(seed, 80)
	}
	f.Fuzz(func(t *testing.T, text string, columns int) {
		cause := engine.WithHint(errors.New(text), "%s", text)
		refusal := &engine.Refusal{Findings: []engine.Difference{{Name: "name", Object: text, Actual: text, Expected: text, Fix: text}}}
		run := &engine.Error{Order: []string{"node", "pool"}, Stages: map[string]error{"node": cause, "pool": refusal}}
		for _, line := range report.Explain(run) {
			checkLine(t, line)
		}
		r := report.NewRecorder(state.Journal{State: state.Running}, &fakeStore{}, func(error) {})
		for _, e := range []engine.Event{
			{Kind: engine.Started}, {Kind: engine.Warned, Message: text}, {Kind: engine.Waiting, Message: text, Err: errors.New(text)}, {Kind: engine.Failed, Err: refusal},
		} {
			e.Stage, e.Time, e.Since = "node", epoch, epoch
			r.Event(e)
		}
		s := report.FromJournal(r.Journal(), []string{"node"})
		var b bytes.Buffer
		term := report.Terminal{Width: func() int { return columns }}
		if err := s.WriteText(&b, term, epoch.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if checkLine(t, strings.TrimSuffix(line, "\n")); strings.HasPrefix(line, "firstboot: ") {
				t.Errorf("%q looks like a line of firstboot", line)
			}
		}
	})
}

// checkLine verifies that a line is safe for a terminal and bounded.
func checkLine(t *testing.T, line string) {
	t.Helper()
	if utf8.RuneCountInString(line) > 5000 {
		t.Errorf("%d characters", utf8.RuneCountInString(line))
	}
	for _, r := range line {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\u202e' || r == '\ufeff' {
			t.Fatalf("%q contains %U", line, r)
		}
	}
}

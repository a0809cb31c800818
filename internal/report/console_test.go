package report_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
)

var stages = []string{"preflight", "sysctl", "node"}

// screen records what a console writes.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) lines() []string {
	return strings.Split(strings.TrimSuffix(s.String(), "\n"), "\n")
}

func (s *screen) count(part string) int { return strings.Count(s.String(), part) }

// play shows events on a console in virtual time and returns what it wrote.
func play(t *testing.T, term report.Terminal, show func(c *report.Console, start time.Time)) *screen {
	t.Helper()
	s := &screen{}
	synctest.Test(t, func(*testing.T) {
		c := report.NewConsole(s, term, stages)
		show(c, time.Now())
		c.Close()
	})
	return s
}

func TestEachStageHasOneAlignedLine(t *testing.T) {
	s := play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
		c.Event(engine.Event{Stage: "preflight", Kind: engine.Started, Time: start, Since: start})
		c.Event(engine.Event{Stage: "preflight", Kind: engine.Warned, Time: start, Since: start, Message: "port 179\x1b[2J is used"})
		c.Event(engine.Event{Stage: "preflight", Kind: engine.Done, Time: start.Add(400 * time.Millisecond), Since: start})
		c.Event(engine.Event{Stage: "sysctl", Kind: engine.Done, Changed: true, Time: start.Add(125 * time.Second), Since: start})
		failure := engine.WithHint(errors.New("cannot pull: no such image"), "set node.image")
		c.Event(engine.Event{Stage: "node", Kind: engine.Failed, Err: failure, Time: start.Add(12300 * time.Millisecond), Since: start})
		c.Event(engine.Event{Stage: "node", Kind: engine.Skipped, Message: "sysctl"})
	})
	want := []string{
		"firstboot: preflight (1/3) warning: port 179?[2J is used",
		"firstboot: preflight (1/3) done, 0.4s (ok)",
		"firstboot: sysctl    (2/3) done, 2m5s (changed)",
		"firstboot: node      (3/3) failed, 12.3s: cannot pull: no such image",
		"firstboot:   hint: set node.image",
		"firstboot: node      (3/3) skipped: sysctl is not done",
	}
	if got := s.lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRefusalShowsEveryFindingWithItsFix(t *testing.T) {
	s := play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
		c.Event(engine.Event{Stage: "preflight", Kind: engine.Failed, Time: start, Since: start, Err: &engine.Refusal{Findings: []engine.Difference{
			{Name: "clock", Object: "the clock", Actual: "1970", Expected: "2025 or later", Fix: "set it"},
			{Name: "port-in-use", Object: "port 179", Actual: "used by bgpd", Fix: "stop bgpd"},
		}}})
	})
	for _, part := range []string{"clock: the clock: 1970, expected 2025 or later", "fix: set it", "port-in-use: port 179: used by bgpd", "fix: stop bgpd"} {
		if s.count(part) != 1 {
			t.Errorf("%q does not appear exactly once:\n%s", part, s)
		}
	}
}

// sendWaits sends what the engine sends while a stage waits: one event each
// second, with Since reset whenever what it waits for changes.
func sendWaits(c *report.Console, start time.Time, what func(second int) string, seconds int) {
	for i := range seconds {
		time.Sleep(time.Second)
		now := time.Now()
		if i > 0 && what(i) != what(i-1) {
			start = now
		}
		c.Event(engine.Event{Stage: "node", Kind: engine.Waiting, Message: what(i), Err: errors.New("connection refused"),
			Time: now, Since: start, Next: now.Add(4 * time.Second)})
	}
}

func TestRepeatedWaitIsPrintedAtADecliningRate(t *testing.T) {
	s := play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
		sendWaits(c, start, func(int) string { return "etcd" }, 5*60)
	})
	// At 1 s, 10 s, 30 s, 1 min, and each minute after.
	if got := s.count("waiting for etcd since"); got != 8 {
		t.Errorf("%d lines in five minutes, want 8:\n%s", got, s)
	}
	first := s.lines()[0]
	if !strings.Contains(first, "(1s): connection refused; next attempt in 4s") {
		t.Errorf("the first line lacks the duration, the error or the next attempt: %s", first)
	}
}

func TestAlternatingWaitsArePrintedAtADecliningRate(t *testing.T) {
	s := play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
		sendWaits(c, start, func(i int) string { return fmt.Sprintf("server %d", i%2) }, 5*60)
	})
	// Each of the two at once, after 10 s and 30 s, and each minute.
	if got := len(s.lines()); got < 14 || got > 16 {
		t.Errorf("%d lines, want 7 or 8 for each of the two:\n%s", got, s)
	}
}

func TestLongWorkIsReported(t *testing.T) {
	s := play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
		c.Event(engine.Event{Stage: "node", Kind: engine.Started, Time: start, Since: start})
		c.Event(engine.Event{Stage: "node", Kind: engine.Applying, Time: start, Since: start,
			Check: engine.CheckResult{Differences: []engine.Difference{{Object: "calico-node.service"}}}})
		time.Sleep(2*time.Minute + time.Second/2)
		synctest.Wait()
	})
	// After 10 s, 30 s, one and two minutes.
	if got := s.count("changing calico-node.service"); got != 4 {
		t.Errorf("%d lines in two minutes, want 4:\n%s", got, s)
	}
}

func TestUnchangedDifferencesAreNotReportedAsChanging(t *testing.T) {
	cidr, sysctl := engine.Difference{Object: "pool.cidr", Fix: "choose another", Stops: true}, engine.Difference{Object: "sysctl x"}
	for want, differences := range map[string][]engine.Difference{
		"working for 10s: left unchanged: pool.cidr":                    {cidr},
		"working for 10s: changing sysctl x; left unchanged: pool.cidr": {cidr, sysctl},
		"working for 10s: changing sysctl x, b, c, and 1 more\n":        {sysctl, sysctl, {Object: "b"}, {Object: "c"}, {Object: "d"}},
	} {
		s := play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
			c.Event(engine.Event{Stage: "node", Kind: engine.Started, Time: start, Since: start})
			c.Event(engine.Event{Stage: "node", Kind: engine.Applying, Time: start, Since: start, Check: engine.CheckResult{Differences: differences}})
			time.Sleep(10*time.Second + time.Second/2)
			synctest.Wait()
		})
		if s.count(want) != 1 {
			t.Errorf("the console lacks %q:\n%s", want, s)
		}
	}
}

func TestQuickStagePrintsOnlyItsEnd(t *testing.T) {
	s := play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
		c.Event(engine.Event{Stage: "node", Kind: engine.Started, Time: start, Since: start})
		for i := range int64(1000) {
			c.Event(engine.Event{Stage: "node", Kind: engine.Progressed, Message: "fetching", Done: i, Total: 1000, Time: start, Since: start})
		}
		c.Event(engine.Event{Stage: "node", Kind: engine.Done, Time: start, Since: start})
	})
	if got := len(s.lines()); got != 1 {
		t.Errorf("%d lines, want 1:\n%s", got, s)
	}
}

func TestDownloadIsPrintedEveryTenSecondsOrTenPercent(t *testing.T) {
	download := func(seconds int64) *screen {
		return play(t, report.Terminal{}, func(c *report.Console, start time.Time) {
			for i := range seconds {
				time.Sleep(time.Second)
				c.Event(engine.Event{Stage: "node", Kind: engine.Progressed, Message: "fetching image", Done: (i + 1) * 1e6, Total: seconds * 1e6,
					Time: time.Now(), Since: start})
			}
		})
	}
	if slow := download(200); slow.count("fetching image") < 18 || slow.count("fetching image") > 22 {
		t.Errorf("200 s gave %d lines, want about one every ten seconds:\n%s", slow.count("fetching image"), slow)
	}
	quick := download(30)
	if quick.count("fetching image") < 8 || quick.count("fetching image") > 11 {
		t.Errorf("30 s gave %d lines, want about one every ten percent:\n%s", quick.count("fetching image"), quick)
	}
	if !strings.Contains(quick.String(), " MB of 30 MB (") {
		t.Errorf("the line lacks the sizes:\n%s", quick)
	}
}

func TestTerminalKeepsFinishedLinesAndRedrawsTheRest(t *testing.T) {
	term := report.Terminal{Live: true, Width: func() int { return 60 }}
	s := play(t, term, func(c *report.Console, start time.Time) {
		for _, name := range []string{"sysctl", "node"} {
			c.Event(engine.Event{Stage: name, Kind: engine.Started, Time: start, Since: start})
		}
		time.Sleep(time.Second)
		c.Event(engine.Event{Stage: "node", Kind: engine.Waiting, Message: strings.Repeat("a very long name ", 20), Time: time.Now(), Since: start, Next: time.Now()})
		time.Sleep(time.Second)
		c.Event(engine.Event{Stage: "sysctl", Kind: engine.Done, Time: time.Now(), Since: start})
		time.Sleep(time.Second)
		c.Event(engine.Event{Stage: "node", Kind: engine.Done, Time: time.Now(), Since: start})
	})
	got := render(s.String())
	want := "firstboot: sysctl    (2/3) done, 2.0s (ok)\nfirstboot: node      (3/3) done, 3.0s (ok)"
	if got != want {
		t.Errorf("at the end the terminal shows\n%s\nwant\n%s", got, want)
	}
	if s.count("\x1b[2F\x1b[J") == 0 {
		t.Errorf("two running stages were never redrawn together: %q", s)
	}
	for line := range strings.SplitSeq(s.String(), "\n") {
		line = line[strings.LastIndex(line, "\x1b[J")+1:]
		if n := len([]rune(strings.TrimPrefix(line, "[J"))); n >= 60 {
			t.Errorf("a line of %d columns would wrap on a terminal of 60: %q", n, line)
		}
	}
}

// render returns what a terminal that supports CPL and ED shows.
func render(out string) string {
	var lines []string
	for line := range strings.SplitSeq(out, "\n") {
		for {
			rest, ok := strings.CutPrefix(line, "\x1b[")
			if !ok {
				break
			}
			up := 0
			if n, err := fmt.Sscanf(rest, "%dF", &up); n == 1 && err == nil {
				lines = lines[:len(lines)-up]
			}
			_, line, _ = strings.Cut(line, "\x1b[J")
		}
		lines = append(lines, line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func TestColourIsUsedOnlyIfSupported(t *testing.T) {
	done := func(term report.Terminal) string {
		return play(t, term, func(c *report.Console, start time.Time) {
			c.Event(engine.Event{Stage: "node", Kind: engine.Done, Time: start, Since: start})
		}).String()
	}
	if got := done(report.Terminal{}); strings.Contains(got, "\x1b") {
		t.Errorf("colour without a terminal: %q", got)
	}
	if got := done(report.Terminal{Colour: true}); !strings.Contains(got, "\x1b[32mdone\x1b[0m") {
		t.Errorf("no colour: %q", got)
	}
	if term := report.TerminalOf(&screen{}, func(string) string { return "xterm" }); term.Live || term.Colour {
		t.Error("a buffer was taken for a terminal")
	}
}

// A failure without text once ended the process.
func TestErrorWithoutTextIsExplained(t *testing.T) {
	run := &engine.Error{Order: []string{"docker"}, Stages: map[string]error{"docker": errors.New(" ")}}
	if got := report.Explain(run); len(got) != 1 || got[0] != "stage docker: unknown error" {
		t.Errorf("Explain = %q", got)
	}
}

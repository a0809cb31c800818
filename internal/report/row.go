package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/projecteru2/firstboot/internal/engine"
)

// row is a stage under way.
type row struct {
	since   time.Time
	note    string // what it is at
	done    int64
	total   int64
	wait    engine.Event // the last Waiting event; zero while it does not wait
	waits   map[string]*pace
	working pace
	shown   time.Time // when a line about it was printed last
	percent int64     // the progress in that line
}

func newRow(e engine.Event) *row {
	// The first "working" line comes after 10 s: most stages are done before.
	return &row{since: e.Since, shown: e.Time, waits: map[string]*pace{}, working: pace{began: e.Since, said: 1}}
}

// apply takes an event in.
func (r *row) apply(e engine.Event) {
	if e.Kind == engine.Waiting {
		r.wait = e
		return
	}
	r.wait = engine.Event{}
	switch e.Kind {
	case engine.Applying:
		r.note, r.done, r.total = applying(e.Check), 0, 0
	case engine.Progressed:
		if e.Message != r.note {
			r.percent = 0
		}
		r.note, r.done, r.total = clean(e.Message), e.Done, e.Total
	}
}

// applying says what a stage does about a finding: what is not firstboot's to
// change is only looked at once more, and must not read as if it were changed.
func applying(f engine.CheckResult) string {
	var changed, left []engine.Difference
	for _, d := range f.Differences {
		if d.Stops {
			left = append(left, d)
		} else {
			changed = append(changed, d)
		}
	}
	switch {
	case len(left) == 0:
		return "changing " + objects(changed)
	case len(changed) == 0:
		return "not as wanted, and left as it is: " + objects(left)
	}
	return "changing " + objects(changed) + "; left as it is: " + objects(left)
}

// objects names what differs, in few words.
func objects(all []engine.Difference) string {
	var names []string
	for i, d := range all {
		if i == 3 {
			names = append(names, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		names = append(names, clean(d.Object))
	}
	return strings.Join(names, ", ")
}

// text is what the stage is at.
func (r *row) text(now time.Time) string {
	if r.wait.Kind == engine.Waiting {
		return waitText(r.wait, now)
	}
	text := "working for " + whole(now.Sub(r.since))
	if r.note != "" {
		text += ": " + r.note
	}
	if r.total > 0 {
		return fmt.Sprintf("%s, %s of %s (%d %%)", text,
			humanize.Bytes(unsigned(r.done)), humanize.Bytes(unsigned(r.total)), r.share())
	}
	if r.done > 0 {
		return text + ", " + humanize.Bytes(unsigned(r.done))
	}
	return text
}

// waitText says what is waited for, since when, what was seen, and when it is
// tried again.
func waitText(e engine.Event, now time.Time) string {
	text := fmt.Sprintf("waiting for %s since %s (%s)", clean(e.Message),
		e.Since.Local().Format("15:04:05"), whole(now.Sub(e.Since)))
	if e.Err != nil {
		text += ": " + clean(e.Err.Error())
	}
	if left := e.Next.Sub(now); left > 0 {
		return text + "; next try in " + whole(left)
	}
	return text + "; trying"
}

func unsigned(n int64) uint64 { return uint64(max(0, n)) } //nolint:gosec // not negative

func (r *row) share() int64 {
	if r.total <= 0 {
		return 0
	}
	return min(100, max(0, r.done)*100/r.total)
}

// worth tells whether an event deserves a line that stays: waits at a
// decreasing rate, counted for each thing that is waited for; progress every
// ten seconds or ten percent, but never twice in two seconds.
func (r *row) worth(e engine.Event) bool {
	var ok bool
	if e.Kind == engine.Waiting {
		p := r.waits[e.Message]
		if p == nil {
			// Two things that are waited for in turns begin anew each time,
			// so what counts is when each was first seen.
			p = &pace{began: e.Since}
			r.waits[e.Message] = p
		}
		ok = p.ready(e.Time)
	} else {
		quiet := e.Time.Sub(r.shown)
		ok = quiet >= 10*time.Second || r.total > 0 && r.share() >= r.percent+10 && quiet >= 2*time.Second
	}
	if ok {
		r.shown, r.percent = e.Time, r.share()
	}
	return ok
}

// overdue tells whether a stage has been at work for long without a line.
func (r *row) overdue(now time.Time) bool {
	if r.wait.Kind == engine.Waiting || now.Sub(r.shown) < 10*time.Second || !r.working.ready(now) {
		return false
	}
	r.shown = now
	return true
}

package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// row is a running stage.
type row struct {
	since     time.Time
	activity  string // what the stage does now
	done      int64
	total     int64
	wait      engine.Event              // the last Waiting event; zero if the stage does not wait
	waitRates map[string]*decliningRate // by the thing waited for
	workRate  decliningRate
	printed   time.Time // when its last line was printed
	percent   int64     // the progress in that line
}

func newRow(e engine.Event) *row {
	// The first "working" line comes after 10 s: most stages are done by then.
	return &row{since: e.Since, printed: e.Time, waitRates: map[string]*decliningRate{}, workRate: decliningRate{start: e.Since, printed: 1}}
}

// apply updates the row from an event.
func (r *row) apply(e engine.Event) {
	if e.Kind == engine.Waiting {
		r.wait = e
		return
	}
	r.wait = engine.Event{}
	switch e.Kind {
	case engine.Applying:
		r.activity, r.done, r.total = applyText(e.Check), 0, 0
	case engine.Progressed:
		if e.Message != r.activity {
			r.percent = 0
		}
		r.activity, r.done, r.total = clean(e.Message), e.Done, e.Total
	}
}

// applyText describes what Apply does about the differences. Apply does not
// change those that stop the run, so the text must not read as if it did.
func applyText(check engine.CheckResult) string {
	var changed, left []engine.Difference
	for _, d := range check.Differences {
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
		return "left unchanged: " + objects(left)
	}
	return "changing " + objects(changed) + "; left unchanged: " + objects(left)
}

// objects lists the first three objects that differ.
func objects(all []engine.Difference) string {
	var names []string
	for _, d := range all {
		if name := clean(d.Object); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("and %d more", len(names)-3))
	}
	return strings.Join(names, ", ")
}

// text describes what the stage does now.
func (r *row) text(now time.Time) string {
	if r.wait.Kind == engine.Waiting {
		return waitText(r.wait, now)
	}
	text := "working for " + wholeSeconds(now.Sub(r.since))
	if r.activity != "" {
		text += ": " + r.activity
	}
	if r.total > 0 {
		return fmt.Sprintf("%s, %s of %s (%d %%)", text,
			Bytes(r.done), Bytes(r.total), r.share())
	}
	if r.done > 0 {
		return text + ", " + Bytes(r.done)
	}
	return text
}

// waitText describes what the stage waits for, since when, the last error, and
// the time of the next attempt.
func waitText(e engine.Event, now time.Time) string {
	text := fmt.Sprintf("waiting for %s since %s (%s)", clean(e.Message),
		timeOfDay(e.Since), wholeSeconds(now.Sub(e.Since)))
	if e.Err != nil {
		text += ": " + clean(e.Err.Error())
	}
	if left := e.Next.Sub(now); left > 0 {
		return text + "; next attempt in " + wholeSeconds(left)
	}
	return text + "; retrying"
}

func (r *row) share() int64 {
	if r.total <= 0 {
		return 0
	}
	return min(100, max(0, r.done)*100/r.total)
}

// needsLine reports whether an event is printed as a line that stays: waits at
// a decreasing rate, counted for each thing waited for; progress every ten
// seconds or ten percent, but never twice within two seconds.
func (r *row) needsLine(e engine.Event) bool {
	var ok bool
	if e.Kind == engine.Waiting {
		rate := r.waitRates[e.Message]
		if rate == nil {
			// Since restarts whenever two waits alternate, so the rate counts
			// from the first event of each.
			rate = &decliningRate{start: e.Since}
			r.waitRates[e.Message] = rate
		}
		ok = rate.allows(e.Time)
	} else {
		quiet := e.Time.Sub(r.printed)
		ok = quiet >= 10*time.Second || r.total > 0 && r.share() >= r.percent+10 && quiet >= 2*time.Second
	}
	if ok {
		r.printed, r.percent = e.Time, r.share()
	}
	return ok
}

// overdue reports whether the stage has worked for long without a line.
func (r *row) overdue(now time.Time) bool {
	if r.wait.Kind == engine.Waiting || now.Sub(r.printed) < 10*time.Second || !r.workRate.allows(now) {
		return false
	}
	r.printed = now
	return true
}

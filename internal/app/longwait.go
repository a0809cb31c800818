package app

import (
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// longWait calls report once for each stage that waits for longer than a limit,
// and again if that stage then waits for something else. It counts from the
// stage's first wait: two reasons that alternate are one wait.
type longWait struct {
	after  time.Duration // 0: never
	report func()
	stages map[string]*stageWait
}

type stageWait struct {
	since    time.Time
	reported map[string]bool // by what the stage waits for
}

func newLongWait(after time.Duration, report func()) *longWait {
	return &longWait{after: after, report: report, stages: map[string]*stageWait{}}
}

// Event receives the events of a run (engine.Options.Events).
func (w *longWait) Event(e engine.Event) {
	if e.Kind != engine.Waiting || w.after <= 0 {
		return
	}
	s := w.stages[e.Stage]
	if s == nil {
		s = &stageWait{since: e.Since, reported: map[string]bool{}}
		w.stages[e.Stage] = s
	}
	if e.Time.Sub(s.since) < w.after || s.reported[e.Message] {
		return
	}
	s.reported[e.Message] = true
	w.report()
}

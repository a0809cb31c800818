package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// boolStage is a stage whose machine is one boolean.
type boolStage struct {
	name  string
	after []string
	done  bool
	apply func(s *boolStage, ctx context.Context) error
	check func() error
	took  time.Duration // by Apply
}

func (s *boolStage) Name() string    { return s.name }
func (s *boolStage) After() []string { return s.after }

func (s *boolStage) Check(context.Context) (engine.CheckResult, error) {
	var result engine.CheckResult
	if s.check != nil {
		if err := s.check(); err != nil {
			return result, err
		}
	}
	if !s.done {
		result.Add(engine.Difference{Object: s.name, Actual: "false", Expected: "true"})
	}
	return result, nil
}

func (s *boolStage) Apply(ctx context.Context, _ engine.Progress) error {
	time.Sleep(s.took)
	if s.apply != nil {
		return s.apply(s, ctx)
	}
	s.done = true
	return nil
}

type eventLog struct{ events []engine.Event }

func (l *eventLog) add(e engine.Event) { l.events = append(l.events, e) }

func (l *eventLog) String() string {
	var b strings.Builder
	for _, e := range l.events {
		fmt.Fprintf(&b, "%s %s;", e.Stage, e.Kind)
	}
	return b.String()
}

func (l *eventLog) count(kind engine.Kind) int {
	n := 0
	for _, e := range l.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestStageFailsIfTheCheckAfterApplyStillDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noop := &boolStage{name: "noop", apply: func(*boolStage, context.Context) error { return nil }}
		var log eventLog
		err := engine.Run(t.Context(), []engine.Stage{noop}, engine.Options{Events: log.add, Attempts: 3})
		var failed *engine.Error
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), "still differs after the change: noop: false, expected true") {
			t.Fatalf("an Apply without effect gave %v", err)
		}
		if got := log.count(engine.Applying); got != 3 {
			t.Errorf("applied %d times, want 3", got)
		}
	})
}

func TestStageWithoutDifferencesIsNotApplied(t *testing.T) {
	var log eventLog
	if err := engine.Run(t.Context(), []engine.Stage{&boolStage{name: "a", done: true}}, engine.Options{Events: log.add}); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); got != "a started;a done;" {
		t.Errorf("events %q", got)
	}
}

func TestIndependentStagesRunInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		stages := []engine.Stage{
			&boolStage{name: "first", took: time.Second},
			&boolStage{name: "left", after: []string{"first"}, took: 10 * time.Second},
			&boolStage{name: "right", after: []string{"first"}, took: 8 * time.Second},
			&boolStage{name: "last", after: []string{"left", "right"}, took: time.Second},
		}
		if err := engine.Run(t.Context(), stages, engine.Options{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 12*time.Second {
			t.Errorf("took %v, want the critical path of 12s", took)
		}
	})
}

func TestFailureSkipsOnlyTheStagesThatNeedIt(t *testing.T) {
	broken := errors.New("disk is broken")
	bad := &boolStage{name: "bad", apply: func(*boolStage, context.Context) error { return broken }}
	other := &boolStage{name: "other"}
	child := &boolStage{name: "child", after: []string{"bad"}}
	grandchild := &boolStage{name: "grandchild", after: []string{"child", "other"}}
	var log eventLog
	err := engine.Run(t.Context(), []engine.Stage{bad, other, child, grandchild}, engine.Options{Events: log.add})
	var failed *engine.Error
	if !errors.As(err, &failed) || !slices.Equal(failed.Order, []string{"bad"}) || !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if !other.done || child.done || grandchild.done {
		t.Errorf("other %v child %v grandchild %v", other.done, child.done, grandchild.done)
	}
	if got := log.count(engine.Skipped); got != 2 {
		t.Errorf("%d stages skipped, want 2", got)
	}
}

func TestWaitIsRepeatedWithoutLimitAndReportsItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &boolStage{name: "s", check: func() error {
			if time.Since(start) < time.Hour {
				return &engine.Wait{For: "etcd", Err: errors.New("connection refused")}
			}
			return nil
		}}
		var log eventLog
		if err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{Events: log.add}); err != nil {
			t.Fatal(err)
		}
		waits := 0
		var last engine.Event
		for _, e := range log.events {
			if e.Kind == engine.Waiting {
				waits++
				last = e
			}
		}
		if waits < 100 {
			t.Errorf("only %d attempts in an hour", waits)
		}
		if last.Message != "etcd" || last.Elapsed() < 59*time.Minute || !last.Next.After(last.Time) {
			t.Errorf("last wait for %q since %v, next attempt %v", last.Message, last.Elapsed(), last.Next)
		}
		if last.Next.Sub(last.Time) > 20*time.Second {
			t.Errorf("pause of %v is longer than twice the maximum mean", last.Next.Sub(last.Time))
		}
	})
}

// The back-off is added to the pause that a server requests.
func TestWaitIsAtLeastAsLongAsTheServerRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := &boolStage{name: "s", check: func() error {
			if calls++; calls > 5 {
				return nil
			}
			return &engine.Wait{For: "server", After: time.Minute}
		}}
		var log eventLog
		if err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{Events: log.add}); err != nil {
			t.Fatal(err)
		}
		var pauses []time.Duration
		for _, e := range log.events {
			if e.Kind == engine.Waiting {
				pauses = append(pauses, e.Next.Sub(e.Time))
			}
		}
		if len(pauses) != 5 || slices.Min(pauses) < time.Minute || slices.Max(pauses) > time.Minute+20*time.Second || slices.Min(pauses) == slices.Max(pauses) {
			t.Errorf("waited %v", pauses)
		}
	})
}

func TestRetryIsMadeAfterTheReturnedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		s := &boolStage{name: "s", apply: func(s *boolStage, _ context.Context) error {
			if attempts++; attempts < 3 {
				return &engine.Retry{After: time.Minute, Err: errors.New("held")}
			}
			s.done = true
			return nil
		}}
		start := time.Now()
		if err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{}); err != nil {
			t.Fatal(err)
		}
		if attempts != 3 || time.Since(start) < 2*time.Minute {
			t.Errorf("%d attempts in %v", attempts, time.Since(start))
		}
	})
}

func TestDeadlineEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &boolStage{name: "s", check: func() error { return &engine.Wait{For: "etcd"} }}
		err := engine.Run(ctx, []engine.Stage{s}, engine.Options{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRefusalIsNotRetried(t *testing.T) {
	attempts := 0
	s := &boolStage{name: "s", apply: func(*boolStage, context.Context) error {
		attempts++
		return &engine.Refusal{Findings: []engine.Difference{{Name: "clock", Object: "clock", Actual: "1970", Fix: "set it"}}}
	}}
	err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{})
	var refusal *engine.Refusal
	if !errors.As(err, &refusal) || attempts != 1 {
		t.Fatalf("%d attempts, %v", attempts, err)
	}
	if engine.Hint(err) != "set it" {
		t.Errorf("hint %q", engine.Hint(err))
	}
}

func TestSelectAddsTheStagesThatAreNeeded(t *testing.T) {
	stages := []engine.Stage{
		&boolStage{name: "a"}, &boolStage{name: "b", after: []string{"a"}}, &boolStage{name: "c"},
		&boolStage{name: "d", after: []string{"b"}},
	}
	got, err := engine.Select(stages, []string{"d"})
	if err != nil || !slices.Equal(engine.Names(got), []string{"a", "b", "d"}) {
		t.Errorf("selected %v, %v", engine.Names(got), err)
	}
	if _, err := engine.Select(stages, []string{"z"}); err == nil || !strings.Contains(err.Error(), "a, b, c, d") {
		t.Errorf("unknown stage: %v", err)
	}
}

func TestCyclesAndDuplicateNamesAreErrors(t *testing.T) {
	cycle := []engine.Stage{&boolStage{name: "a", after: []string{"b"}}, &boolStage{name: "b", after: []string{"a"}}}
	if err := engine.Run(t.Context(), cycle, engine.Options{}); err == nil {
		t.Error("a cycle was accepted")
	}
	duplicate := []engine.Stage{&boolStage{name: "a"}, &boolStage{name: "a"}}
	if err := engine.Run(t.Context(), duplicate, engine.Options{}); err == nil {
		t.Error("a duplicate name was accepted")
	}
}

// skipped lists the events about skipped stages, in order: the stage, and the
// stage that it needs.
func (l *eventLog) skipped() string {
	var names []string
	for _, e := range l.events {
		if e.Kind == engine.Skipped {
			names = append(names, e.Stage+" "+e.Message)
		}
	}
	return strings.Join(names, ", ")
}

// The order does not depend on which goroutine is first.
func TestSkippedStagesAreReportedOnceInTheOrderOfTheList(t *testing.T) {
	bad := func(*boolStage, context.Context) error { return errors.New("no") }
	for range 50 {
		var log eventLog
		err := engine.Run(t.Context(), []engine.Stage{
			&boolStage{name: "a", apply: bad}, &boolStage{name: "b", after: []string{"a"}}, &boolStage{name: "c", apply: bad},
			&boolStage{name: "d", after: []string{"c", "a"}}, &boolStage{name: "e", after: []string{"b"}}, &boolStage{name: "f", after: []string{"a", "e"}},
			&boolStage{name: "g"},
		}, engine.Options{Events: log.add})
		// Either of the two can fail first.
		if got := log.skipped(); err == nil || got != "b a, d a, e b, f a" && got != "d c, b a, e b, f a" {
			t.Fatalf("%v: skipped %s", err, got)
		}
	}
}

// Stages that did not start before an interruption are pending, not skipped.
func TestInterruptionSkipsNoStage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first := &boolStage{name: "a", apply: func(_ *boolStage, ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }}
	var log eventLog
	err := engine.Run(ctx, []engine.Stage{first, &boolStage{name: "b", after: []string{"a"}}, &boolStage{name: "c", after: []string{"b"}}}, engine.Options{Events: log.add})
	if !errors.Is(err, context.Canceled) || log.skipped() != "" || log.count(engine.Interrupted) != 1 || log.count(engine.Failed) != 0 {
		t.Errorf("%v: %s", err, &log)
	}
}

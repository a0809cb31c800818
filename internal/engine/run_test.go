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

// thing is a stage whose machine is one boolean.
type thing struct {
	name  string
	after []string
	right bool
	apply func(t *thing, ctx context.Context) error
	check func() error
	took  time.Duration
}

func (t *thing) Name() string    { return t.name }
func (t *thing) After() []string { return t.after }

func (t *thing) Check(context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	if t.check != nil {
		if err := t.check(); err != nil {
			return f, err
		}
	}
	if !t.right {
		f.Add(engine.Difference{Object: t.name, Actual: "wrong", Expected: "right"})
	}
	return f, nil
}

func (t *thing) Apply(ctx context.Context, _ engine.Progress) error {
	time.Sleep(t.took)
	if t.apply != nil {
		return t.apply(t, ctx)
	}
	t.right = true
	return nil
}

type log struct{ events []engine.Event }

func (l *log) add(e engine.Event) { l.events = append(l.events, e) }

func (l *log) String() string {
	var b strings.Builder
	for _, e := range l.events {
		fmt.Fprintf(&b, "%s %s;", e.Stage, e.Kind)
	}
	return b.String()
}

func (l *log) count(kind engine.Kind) int {
	n := 0
	for _, e := range l.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestDoneOnlyByTheSecondCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		liar := &thing{name: "liar", apply: func(*thing, context.Context) error { return nil }}
		var l log
		err := engine.Run(t.Context(), []engine.Stage{liar}, engine.Options{Events: l.add, Attempts: 3})
		var failed *engine.Error
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), "still not as wanted: liar: wrong, wanted right") {
			t.Fatalf("an apply that changes nothing passed for done: %v", err)
		}
		if got := l.count(engine.Applying); got != 3 {
			t.Errorf("applied %d times, want 3", got)
		}
	})
}

func TestRightMachineIsNotTouched(t *testing.T) {
	var l log
	if err := engine.Run(t.Context(), []engine.Stage{&thing{name: "a", right: true}}, engine.Options{Events: l.add}); err != nil {
		t.Fatal(err)
	}
	if got := l.String(); got != "a started;a done;" {
		t.Errorf("events %q", got)
	}
}

func TestIndependentStagesRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		stages := []engine.Stage{
			&thing{name: "first", took: time.Second},
			&thing{name: "left", after: []string{"first"}, took: 10 * time.Second},
			&thing{name: "right", after: []string{"first"}, took: 8 * time.Second},
			&thing{name: "last", after: []string{"left", "right"}, took: time.Second},
		}
		if err := engine.Run(t.Context(), stages, engine.Options{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 12*time.Second {
			t.Errorf("took %v, want the critical path of 12s", took)
		}
	})
}

func TestFailureSkipsOnlyWhatDependsOnIt(t *testing.T) {
	boom := errors.New("disk on fire")
	bad := &thing{name: "bad", apply: func(*thing, context.Context) error { return boom }}
	other := &thing{name: "other"}
	child := &thing{name: "child", after: []string{"bad"}}
	grandchild := &thing{name: "grandchild", after: []string{"child", "other"}}
	var l log
	err := engine.Run(t.Context(), []engine.Stage{bad, other, child, grandchild}, engine.Options{Events: l.add})
	var failed *engine.Error
	if !errors.As(err, &failed) || !slices.Equal(failed.Order, []string{"bad"}) || !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	if !other.right || child.right || grandchild.right {
		t.Errorf("other %v child %v grandchild %v", other.right, child.right, grandchild.right)
	}
	if got := l.count(engine.Skipped); got != 2 {
		t.Errorf("%d stages skipped, want 2", got)
	}
}

func TestWaitGoesOnWithoutLimitAndSaysSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &thing{name: "s", check: func() error {
			if time.Since(start) < time.Hour {
				return &engine.Wait{For: "etcd", Err: errors.New("connection refused")}
			}
			return nil
		}}
		var l log
		if err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{Events: l.add}); err != nil {
			t.Fatal(err)
		}
		waits := 0
		var last engine.Event
		for _, e := range l.events {
			if e.Kind == engine.Waiting {
				waits++
				last = e
			}
		}
		if waits < 100 {
			t.Errorf("only %d tries in an hour", waits)
		}
		if last.Message != "etcd" || last.Elapsed() < 59*time.Minute || !last.Next.After(last.Time) {
			t.Errorf("last wait says %q since %v next %v", last.Message, last.Elapsed(), last.Next)
		}
		if last.Next.Sub(last.Time) > 20*time.Second {
			t.Errorf("pause of %v is beyond twice the maximum's mean", last.Next.Sub(last.Time))
		}
	})
}

// TestWaitIsNoShorterThanAServerAsked, and longer by the back-off.
func TestWaitIsNoShorterThanAServerAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := &thing{name: "s", check: func() error {
			if asked++; asked > 5 {
				return nil
			}
			return &engine.Wait{For: "server", After: time.Minute}
		}}
		var l log
		if err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{Events: l.add}); err != nil {
			t.Fatal(err)
		}
		var pauses []time.Duration
		for _, e := range l.events {
			if e.Kind == engine.Waiting {
				pauses = append(pauses, e.Next.Sub(e.Time))
			}
		}
		if len(pauses) != 5 || slices.Min(pauses) < time.Minute || slices.Max(pauses) > time.Minute+20*time.Second || slices.Min(pauses) == slices.Max(pauses) {
			t.Errorf("waited %v", pauses)
		}
	})
}

func TestRetryIsAReturnedValueAndLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := &thing{name: "s", apply: func(s *thing, _ context.Context) error {
			if tries++; tries < 3 {
				return &engine.Retry{After: time.Minute, Err: errors.New("held")}
			}
			s.right = true
			return nil
		}}
		start := time.Now()
		if err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{}); err != nil {
			t.Fatal(err)
		}
		if tries != 3 || time.Since(start) < 2*time.Minute {
			t.Errorf("%d tries in %v", tries, time.Since(start))
		}
	})
}

func TestDeadlineEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &thing{name: "s", check: func() error { return &engine.Wait{For: "godot"} }}
		err := engine.Run(ctx, []engine.Stage{s}, engine.Options{})
		if !errors.Is(err, context.DeadlineExceeded) || !engine.Interrupted(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRefusalIsNotRetried(t *testing.T) {
	tries := 0
	s := &thing{name: "s", apply: func(*thing, context.Context) error {
		tries++
		return &engine.Refusal{Findings: []engine.Difference{{Name: "clock", Object: "clock", Actual: "1970", Fix: "set it"}}}
	}}
	err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{})
	var refusal *engine.Refusal
	if !errors.As(err, &refusal) || tries != 1 {
		t.Fatalf("%d tries, %v", tries, err)
	}
	if engine.Hint(err) != "set it" {
		t.Errorf("hint %q", engine.Hint(err))
	}
}

func TestSelectTakesWhatIsNeeded(t *testing.T) {
	stages := []engine.Stage{
		&thing{name: "a"}, &thing{name: "b", after: []string{"a"}}, &thing{name: "c"},
		&thing{name: "d", after: []string{"b"}},
	}
	got, err := engine.Select(stages, []string{"d"})
	if err != nil || !slices.Equal(engine.Names(got), []string{"a", "b", "d"}) {
		t.Errorf("selected %v, %v", engine.Names(got), err)
	}
	if _, err := engine.Select(stages, []string{"z"}); err == nil || !strings.Contains(err.Error(), "a, b, c, d") {
		t.Errorf("unknown stage: %v", err)
	}
}

func TestListsThatCannotEndAreRefused(t *testing.T) {
	cycle := []engine.Stage{&thing{name: "a", after: []string{"b"}}, &thing{name: "b", after: []string{"a"}}}
	if err := engine.Run(t.Context(), cycle, engine.Options{}); err == nil {
		t.Error("a cycle was accepted")
	}
	twice := []engine.Stage{&thing{name: "a"}, &thing{name: "a"}}
	if err := engine.Run(t.Context(), twice, engine.Options{}); err == nil {
		t.Error("a name used twice was accepted")
	}
}

// skips are the stages that were said to be skipped, in the order of the events.
func (l *log) skips() string {
	var names []string
	for _, e := range l.events {
		if e.Kind == engine.Skipped {
			names = append(names, e.Stage+" "+e.Message)
		}
	}
	return strings.Join(names, ", ")
}

// TestSkippedStagesAreToldInTheirOrder: whoever reads the console sees the
// list's order, each stage once, whatever goroutine was first.
func TestSkippedStagesAreToldInTheirOrder(t *testing.T) {
	bad := func(*thing, context.Context) error { return errors.New("no") }
	for range 50 {
		var l log
		err := engine.Run(t.Context(), []engine.Stage{
			&thing{name: "a", apply: bad}, &thing{name: "b", after: []string{"a"}}, &thing{name: "c", apply: bad},
			&thing{name: "d", after: []string{"c", "a"}}, &thing{name: "e", after: []string{"b"}}, &thing{name: "f", after: []string{"a", "e"}},
			&thing{name: "g"},
		}, engine.Options{Events: l.add})
		// Which of the two failed first is left open.
		if got := l.skips(); err == nil || got != "b a, d a, e b, f a" && got != "d c, b a, e b, f a" {
			t.Fatalf("%v: skipped %s", err, got)
		}
	}
}

// TestInterruptionSkipsNothing: what was not begun when a run was told to end
// is pending, and worth no line.
func TestInterruptionSkipsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first := &thing{name: "a", apply: func(_ *thing, ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }}
	var l log
	err := engine.Run(ctx, []engine.Stage{first, &thing{name: "b", after: []string{"a"}}, &thing{name: "c", after: []string{"b"}}}, engine.Options{Events: l.add})
	if !engine.Interrupted(err) || l.skips() != "" || l.count(engine.Failed) != 1 {
		t.Errorf("%v: %s", err, &l)
	}
}

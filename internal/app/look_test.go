package app_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestStatusLooksAtTheMachine(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.stages[2].check = func() error { return &engine.Wait{For: "etcd", Err: errors.New("refused")} }
	m.is(state.Unknown, "waiting for etcd: refused")
	m.put("/etc/first", "changed by hand")
	m.is(state.Drifted, "/etc/first: other text", "waiting for etcd: refused")
	m.put("/etc/first", "10.213.0.0/16")
	m.stages[2].check = nil
	m.is(state.Complete)
}

func TestStatusChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	before := m.tree()
	m.put("/etc/first", "changed by hand")
	before["/etc/first"] = "changed by hand"
	m.is(state.Drifted)
	if d := cmp.Diff(before, m.tree()); d != "" {
		t.Error(d)
	}
}

func TestOtherVersionIsANote(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	o := m.options()
	o.Version = "v2.0.0"
	s, err := app.Status(t.Context(), o)
	if err != nil || s.State != state.Complete || s.Version != "v1.0.0" || !strings.Contains(fmt.Sprint(s.Notes), "this is firstboot v2.0.0, the host was made complete by v1.0.0: nothing is done about that until firstboot run --force") {
		t.Errorf("%+v, %v", s, err)
	}
	// Another version may want the host otherwise: then it is the reason.
	m.put("/etc/first", "as another version wants it")
	s, err = app.Status(t.Context(), o)
	if err != nil || s.State != state.Drifted || !strings.Contains(fmt.Sprint(s.Notes), "made complete by v1.0.0") {
		t.Errorf("%+v, %v", s, err)
	}
	m.put("/etc/first", "10.213.0.0/16")
	if err := app.Run(t.Context(), app.RunOptions{Options: o, Out: &m.out, Err: &m.errs}); err != nil || !strings.Contains(m.out.String(), "by firstboot v1.0.0") {
		t.Errorf("%v: %s", err, &m.out)
	}
}

func TestCutOffRunIsNotRunning(t *testing.T) {
	for _, st := range []state.State{state.Running, state.Complete} {
		m := newMachine(t)
		j := state.Journal{State: st, Machine: state.Machine{MachineID: "aaaa"}}
		j.Stage("first").State = state.StageOK
		j.Stage("second").State = state.StageRunning
		if err := j.Save(m.h); err != nil {
			t.Fatal(err)
		}
		m.is(state.Failed, "cut off", "Name:second State:pending")
	}
}

func TestSavedConfigurationThatIsGoneCannotBeTold(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	if err := m.h.Remove(state.EffectivePath); err != nil {
		t.Fatal(err)
	}
	m.is(state.Unknown, state.EffectivePath+" is gone")
}

func TestPlanShowsDiffsAndChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.stages[2].check = func() error { return errors.New("no daemon") }
	before := m.tree()
	checks, err := app.Plan(t.Context(), m.options(), false)
	if err != nil {
		t.Fatal(err)
	}
	if checks.Differing != 2 || checks.Unknown != 1 || checks.Stages[0].Differences[0].Diff != "-a\n+b\n" || checks.Stages[2].Error != "no daemon" {
		t.Errorf("%+v", checks)
	}
	if d := cmp.Diff(before, m.tree()); d != "" {
		t.Error(d)
	}
}

func TestPlanByForceUsesTheFilesAsTheyAre(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.put("/etc/firstboot/config.yaml", otherConfig)
	for fresh, want := range map[bool]int{false: 0, true: 3} {
		checks, err := app.Plan(t.Context(), m.options(), fresh)
		if err != nil || checks.Differing != want {
			t.Errorf("fresh %v: %d stages differ, want %d, %v", fresh, checks.Differing, want, err)
		}
	}
}

func TestVerifyMakesTheTestAnew(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	verify := func() (differing, unknown int) {
		t.Helper()
		checks, err := app.Verify(t.Context(), m.options())
		if err != nil {
			t.Fatal(err)
		}
		return checks.Differing, checks.Unknown
	}
	if d, u := verify(); d != 0 || u != 0 {
		t.Errorf("%d differ, %d unknown", d, u)
	}
	m.stages[2].probe = func() error { return engine.WithHint(errors.New("no answer to ping"), "look") }
	if d, _ := verify(); d != 1 {
		t.Errorf("a failed test left %d differences", d)
	}
	m.stages[2].probe = func() error { return &engine.Wait{For: "etcd"} }
	if d, u := verify(); d != 0 || u != 1 {
		t.Errorf("a test that could not be made: %d differ, %d unknown", d, u)
	}
	lock, err := state.AcquireLock(m.h)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := app.Verify(t.Context(), m.options()); app.ExitCode(err) != app.ExitHeld {
		t.Errorf("beside a run: %v", err)
	}
}

func TestWaitEndsWithTheRun(t *testing.T) {
	m := newMachine(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	m.stages[1].apply = func(context.Context) error {
		close(entered)
		<-leave
		return nil
	}
	done := make(chan int)
	go func() { done <- m.run() }()
	<-entered
	looker := &machine{t: t, root: m.root, ctx: t.Context(), h: m.h, stages: m.stages}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	var said strings.Builder
	if ranOut, err := app.WaitForRun(short, looker.options(), &said); !ranOut || err != nil {
		t.Errorf("ran out %v, %v", ranOut, err)
	}
	if !strings.Contains(said.String(), "the run is under way: second") {
		t.Errorf("said %q", said.String())
	}
	close(leave)
	if ranOut, err := app.WaitForRun(t.Context(), looker.options(), &said); ranOut || err != nil {
		t.Errorf("ran out %v, %v", ranOut, err)
	}
	if code := <-done; code != app.ExitDone {
		t.Errorf("exit code %d", code)
	}
}

func TestExitCodes(t *testing.T) {
	refusal := &engine.Refusal{}
	failed := errors.New("no")
	run := func(causes ...error) error {
		e := &engine.Error{Stages: map[string]error{}}
		for i, c := range causes {
			name := fmt.Sprint(i)
			e.Stages[name], e.Order = c, append(e.Order, name)
		}
		return e
	}
	for _, c := range []struct {
		what string
		err  error
		code int
	}{
		{"success", nil, 0},
		{"a failed stage", run(failed), 1},
		{"a stage that ran out of its time", run(context.DeadlineExceeded), 1},
		{"a stage that a lost connection canceled", run(context.Canceled), 1},
		{"a refusal beside a failure", run(refusal, failed), 1},
		{"the end of timeouts.total", &app.TotalTimeoutError{Limit: "1m"}, 1},
		{"a newer journal", &state.NewerError{}, 1},
		{"a wrong flag", &app.UsageError{Err: failed}, 2},
		{"a wrong key", fmt.Errorf("wrapped: %w", config.Problems{{}}), 3},
		{"a file that is not there", &app.ConfigError{Err: failed}, 3},
		{"a refusal", run(refusal), 4},
		{"a held lock", &state.LockHeldError{PID: 1}, 5},
		{"changes pending", &app.ReportedError{Code: app.ExitPending}, 6},
		{"a signal", stopSignal{}, 130},
	} {
		if got := app.ExitCode(c.err); got != c.code {
			t.Errorf("%s: exit code %d, want %d", c.what, got, c.code)
		}
	}
	for st, code := range map[state.State]int{
		state.Complete: 0, state.Failed: 1, state.Refused: 4, state.Running: 7, state.NotStarted: 8,
		state.Drifted: 9, state.Foreign: 10, state.Unknown: 11,
	} {
		if got := app.StateExitCode(st); got != code {
			t.Errorf("%s: exit code %d, want %d", st, got, code)
		}
	}
}

// Nothing is promised of the next boot on a host that has left.
func TestStatusTellsWhetherABootStartsTheRun(t *testing.T) {
	m := newMachine(t)
	advised := func(next string) {
		t.Helper()
		s, err := app.Status(t.Context(), m.options())
		if err != nil || s.State != state.NotStarted || s.Next != next {
			t.Errorf("%+v, %v; want %q next", s, err, next)
		}
	}
	advised("firstboot.service is not enabled")
	m.put("/etc/systemd/system/multi-user.target.wants/firstboot.service", "")
	advised("firstboot.service starts the run at boot")
}

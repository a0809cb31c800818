package app_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestPlanReturnsDiffsAndChangesNothing(t *testing.T) {
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

func TestPlanWithForceReadsTheFilesAgain(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile("/etc/firstboot/config.yaml", otherConfig)
	for fresh, want := range map[bool]int{false: 0, true: 3} {
		checks, err := app.Plan(t.Context(), m.options(), fresh)
		if err != nil || checks.Differing != want {
			t.Errorf("fresh %v: %d stages differ, want %d, %v", fresh, checks.Differing, want, err)
		}
	}
}

func TestVerifyRepeatsTheProbe(t *testing.T) {
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
	m.stages[2].probe = func() error { return engine.WithHint(errors.New("no answer to ping"), "see the log") }
	if d, _ := verify(); d != 1 {
		t.Errorf("a failed probe gave %d differences", d)
	}
	m.stages[2].probe = func() error { return &engine.Wait{For: "etcd"} }
	if d, u := verify(); d != 0 || u != 1 {
		t.Errorf("a probe that waits: %d differ, %d unknown", d, u)
	}
	lock, err := state.AcquireLock(m.h, state.CommandRun)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := app.Verify(t.Context(), m.options()); app.ExitCode(err) != app.ExitHeld {
		t.Errorf("while a run holds the lock: %v", err)
	}
}

// A run's probe container has the same name as verify's.
func TestVerifyHoldsTheLockAndARunWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		entered, ends := make(chan struct{}), make(chan struct{})
		m.stages[2].probe = func() error {
			close(entered)
			<-ends
			return nil
		}
		verified := make(chan error)
		go func() {
			_, err := app.Verify(t.Context(), m.options())
			verified <- err
		}()
		<-entered
		other := &machine{t: t, root: m.root, ctx: t.Context(), h: m.h, version: "v1.0.0", stages: newMachineAt(m.root).stages}
		other.is(state.NotStarted, "firstboot verify is in progress (pid ")
		if _, err := app.Verify(t.Context(), other.options()); app.ExitCode(err) != app.ExitHeld || !strings.Contains(err.Error(), "firstboot verify holds the lock") {
			t.Errorf("a second verify: %v", err)
		}
		ran := make(chan int)
		go func() { ran <- other.run() }()
		synctest.Wait()
		close(ends)
		if err := <-verified; err != nil {
			t.Error(err)
		}
		if code := <-ran; code != app.ExitDone || !strings.Contains(other.out.String(), "waiting for the end of firstboot verify (pid ") {
			t.Errorf("exit code %d: %s%s", code, &other.out, &other.errs)
		}
	})
}

func TestVerifyWithADamagedJournalChecksTheMachine(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile(state.JournalPath, "{half")
	if checks, err := app.Verify(t.Context(), m.options()); err != nil || checks.Differing != 0 {
		t.Errorf("%+v, %v", checks, err)
	}
}

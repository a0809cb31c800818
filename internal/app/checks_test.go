package app_test

import (
	"errors"
	"testing"

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

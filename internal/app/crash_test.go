package app_test

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/state"
)

// killed is the exit status of a child that ended itself in mid-run.
const killed = 99

// TestMain lets this binary be a run that is killed before its nth change of
// the machine in the folder CRASH_ROOT.
func TestMain(m *testing.M) {
	root := os.Getenv("CRASH_ROOT")
	if root == "" {
		os.Exit(m.Run())
	}
	at, _ := strconv.ParseInt(os.Getenv("CRASH_AT"), 10, 64)
	c := newMachineAt(root)
	c.step = func(string, string) {
		if c.steps.Load() == at {
			os.Exit(killed)
		}
	}
	os.Exit(app.ExitCode(app.Run(c.ctx, app.RunOptions{Options: c.options(), Out: &c.out, Err: &c.errs})))
}

// TestKilledAnywhereTheNextRunEndsInTheSameMachine kills a run at each of its
// writes, renames, syncs and folders; then a second run goes through.
func TestKilledAnywhereTheNextRunEndsInTheSameMachine(t *testing.T) {
	whole := newMachine(t)
	whole.runs(app.ExitDone)
	want := whole.tree("/var/lib/firstboot/journal.json", "/var/lib/firstboot/complete.json", "/run/")
	steps := whole.steps.Load()
	if steps < 30 {
		t.Fatalf("a run has only %d steps: are they counted?", steps)
	}
	for at := int64(1); at <= steps; at++ {
		m := newMachine(t)
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "CRASH_ROOT="+m.root, "CRASH_AT="+strconv.FormatInt(at, 10))
		var exit *exec.ExitError
		if err := child.Run(); !errors.As(err, &exit) || exit.ExitCode() != killed {
			t.Fatalf("step %d: the child was not killed: %v", at, err)
		}
		if _, err := app.Status(t.Context(), m.options()); err != nil {
			t.Errorf("step %d: status: %v", at, err)
		}
		m.runs(app.ExitDone)
		m.is(state.Complete)
		got := m.tree("/var/lib/firstboot/journal.json", "/var/lib/firstboot/complete.json", "/run/")
		if d := cmp.Diff(want, withoutTemporary(got)); d != "" {
			t.Errorf("step %d: %s", at, d)
		}
	}
}

// withoutTemporary leaves out what a killed write leaves behind: files with
// renameio's names, beside their target, that nothing reads.
func withoutTemporary(files map[string]string) map[string]string {
	temporary := regexp.MustCompile(`/\.[^/]+\d+$`)
	for name := range files {
		if temporary.MatchString(name) {
			delete(files, name)
		}
	}
	return files
}

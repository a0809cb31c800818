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

// exitKilled is the exit status of a child process that ended itself.
const exitKilled = 99

// TestMain makes this binary a run in CRASH_ROOT that ends itself at file
// operation number CRASH_AT, if they are set.
func TestMain(m *testing.M) {
	if root := os.Getenv("CRASH_ROOT"); root != "" {
		runAndCrash(root)
	}
	os.Exit(runTests(m))
}

func runAndCrash(root string) {
	at, _ := strconv.ParseInt(os.Getenv("CRASH_AT"), 10, 64)
	m := newMachineAt(root)
	m.onStep = func(string, string) {
		if m.steps.Load() == at {
			os.Exit(exitKilled)
		}
	}
	os.Exit(app.ExitCode(app.Run(m.ctx, app.RunOptions{Options: m.options(), Out: &m.out, Err: &m.errs})))
}

// runTests runs the tests with their directories in memory if possible: on a
// busy disk they spend most of their time in fsync. A killed process does not
// lose written data, so durability is not what these tests check.
func runTests(m *testing.M) int {
	if dir, err := os.MkdirTemp("/dev/shm", "firstboot-app-test-"); err == nil {
		defer os.RemoveAll(dir)
		os.Setenv("TMPDIR", dir)
	}
	return m.Run()
}

// A run is killed before each of its file operations (writes, renames, syncs,
// new directories). The next run ends with the same files as an undisturbed one.
func TestRunKilledAtAnyFileOperationIsCompletedByTheNext(t *testing.T) {
	whole := newMachine(t)
	whole.runs(app.ExitDone)
	want := whole.tree("/var/lib/firstboot/journal.json", "/var/lib/firstboot/complete.json", "/run/")
	steps := whole.steps.Load()
	if steps < 30 {
		t.Fatalf("a run has only %d file operations: are they counted?", steps)
	}
	for at := int64(1); at <= steps; at++ {
		m := newMachine(t)
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "CRASH_ROOT="+m.root, "CRASH_AT="+strconv.FormatInt(at, 10))
		var exit *exec.ExitError
		if err := child.Run(); !errors.As(err, &exit) || exit.ExitCode() != exitKilled {
			t.Fatalf("operation %d: the child was not killed: %v", at, err)
		}
		if _, err := app.Status(t.Context(), m.options()); err != nil {
			t.Errorf("operation %d: status: %v", at, err)
		}
		m.runs(app.ExitDone)
		m.is(state.Complete)
		got := m.tree("/var/lib/firstboot/journal.json", "/var/lib/firstboot/complete.json", "/run/")
		if d := cmp.Diff(want, withoutTemporary(got)); d != "" {
			t.Errorf("operation %d: %s", at, d)
		}
	}
}

// withoutTemporary removes the temporary files of killed writes. They have
// renameio's names and nothing reads them.
func withoutTemporary(files map[string]string) map[string]string {
	temporary := regexp.MustCompile(`/\.[^/]+\d+$`)
	for name := range files {
		if temporary.MatchString(name) {
			delete(files, name)
		}
	}
	return files
}

package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestMarkerIsWrittenAfterTheLastStage(t *testing.T) {
	m := newMachine(t)
	m.is(state.NotStarted)
	m.stages[2].apply = func(context.Context) error {
		if m.h.Exists(state.MarkerPath) {
			t.Error("the marker exists before the end of the last stage")
		}
		return nil
	}
	m.runs(app.ExitDone, "first  (1/3) done", "third  (3/3) done", "(changed)", "complete, ")
	if got := m.readFile("/etc/third"); got != "10.213.0.0/16" {
		t.Errorf("third is %q", got)
	}
	var c state.Marker
	if err := json.Unmarshal([]byte(m.readFile(state.MarkerPath)), &c); err != nil || c.Machine.MachineID != "aaaa" || c.Version != "v1.0.0" {
		t.Errorf("marker %+v, %v", c, err)
	}
	for _, path := range []string{state.EffectivePath, state.MarkerPath, state.JournalPath, state.ManifestPath} {
		if info, err := os.Stat(m.h.RealPath(path)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if got := m.readFile(state.ManifestPath); !strings.Contains(got, `"/etc/first"`) || strings.Contains(got, "journal.json") {
		t.Errorf("manifest %s", got)
	}
	m.is(state.Complete)
}

func TestRunOnACompleteHostChangesAndChecksNothing(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	before, steps := m.tree(), m.steps.Load()
	checks := m.stages[0].checks.Load()
	m.writeFile("/etc/firstboot/config.yaml", "not: [valid")
	before["/etc/firstboot/config.yaml"] = "not: [valid"

	start := time.Now()
	m.runs(app.ExitDone, "complete (not re-checked)")
	if took := time.Since(start); took > 250*time.Millisecond {
		t.Errorf("took %v", took)
	}
	if d := cmp.Diff(before, m.tree()); d != "" {
		t.Error(d)
	}
	if m.steps.Load() != steps || m.stages[0].checks.Load() != checks {
		t.Error("something was changed or checked")
	}
}

func TestFailureIsShownOnTheLoginScreenUntilARunSucceeds(t *testing.T) {
	m := newMachine(t)
	broken := true
	m.stages[1].apply = func(context.Context) error {
		if broken {
			return engine.WithHint(errors.New("sha256 is aa, expected bb"), "correct it")
		}
		return nil
	}
	m.runs(app.ExitFailed, "second (2/3) failed", "sha256 is aa, expected bb", "hint: correct it", "third  (3/3) skipped",
		"next: the next boot continues from here", "type: systemctl start")
	m.is(state.Failed, "sha256 is aa", "correct it", "second is not done")
	if text := m.readFile(report.RunIssue); !strings.Contains(text, "sha256 is aa, expected bb") || !strings.Contains(text, "correct it") {
		t.Errorf("login screen: %s", text)
	}
	if m.h.Exists(state.MarkerPath) {
		t.Fatal("a failed run wrote the marker")
	}
	broken = false
	m.runs(app.ExitDone, "first  (1/3) done", "(ok)")
	m.is(state.Complete, "Attempt:2")
	for _, path := range []string{report.RunIssue, report.RunMotd} {
		if m.h.Exists(path) {
			t.Errorf("%s still exists", path)
		}
	}
}

func TestRefusedRunWritesOnlyToItsOwnDirectories(t *testing.T) {
	m := newMachine(t)
	m.stages[0].apply = func(context.Context) error {
		return &engine.Refusal{Findings: []engine.Difference{{Name: "cidr", Object: "pool.cidr", Actual: "overlaps eth0", Fix: "choose another"}}}
	}
	before := m.tree()
	m.runs(app.ExitRefused, "cidr: pool.cidr: overlaps eth0", "fix: choose another", "nothing was changed")
	if d := cmp.Diff(before, m.tree(state.Dir+"/", "/run/")); d != "" {
		t.Error(d)
	}
	m.is(state.Refused, "overlaps eth0", "nothing was changed")
}

func TestInvalidConfigurationIsNotSaved(t *testing.T) {
	m := newMachine(t)
	m.writeFile("/etc/firstboot/config.yaml", "pool: {cidr: 10.213.0.1/16}\n")
	m.runs(app.ExitConfig, "/etc/firstboot/config.yaml:1:", "pool.cidr", "type: firstboot validate")
	m.is(state.Failed, "pool.cidr", "firstboot validate")
	if m.h.Exists(state.EffectivePath) {
		t.Error("an invalid configuration was saved")
	}
	if !strings.Contains(m.readFile(report.RunIssue), "pool.cidr") {
		t.Error("the login screen does not show the error")
	}
	m.writeFile("/etc/firstboot/config.yaml", validConfig)
	m.runs(app.ExitDone)
}

func TestForeignMarkerIsSetAsideAndReported(t *testing.T) {
	m := newMachine(t)
	m.writeFile("/var/lib/calico/nodename", "golden")
	m.runs(app.ExitDone)
	m.writeFile("/etc/machine-id", "bbbb\n")
	m.is(state.Foreign, "aaaa", "bbbb")
	m.runs(app.ExitDone, "belongs to another machine (aaaa, this is bbbb)", "set aside in "+state.ForeignDir)
	m.is(state.Complete, "Machine:bbbb", "set aside in "+state.ForeignDir, "Attempt:1")
	if m.h.Exists("/var/lib/calico/nodename") {
		t.Error("the Calico identity of the image still exists")
	}
}

// A clone starts with the machine-id of its image.
func TestForeignMarkerIsReportedByTheIDThatDiffers(t *testing.T) {
	const uuid = "/sys/class/dmi/id/product_uuid"
	m := newMachine(t)
	m.writeFile(uuid, "11111111-0000-0000-0000-000000000000\n")
	m.runs(app.ExitDone)
	m.writeFile(uuid, "22222222-0000-0000-0000-000000000000\n")
	m.is(state.Foreign, "product UUID 11111111", "this is product UUID 22222222")
	m.runs(app.ExitDone, "belongs to another machine (product UUID 11111111", "this is product UUID 22222222")
}

func TestForeignJournalIsSetAside(t *testing.T) {
	m := newMachine(t)
	m.stages[1].apply = func(context.Context) error { return errors.New("no") }
	m.runs(app.ExitFailed)
	m.writeFile("/etc/machine-id", "bbbb\n")
	m.is(state.NotStarted, "the journal belongs to another machine (aaaa, this is bbbb)")
	m.stages[1].apply = nil
	m.runs(app.ExitDone, "the journal belongs to another machine (aaaa, this is bbbb)")
	m.is(state.Complete, "Attempt:1")
}

func TestHostWithADamagedStateFileIsIncomplete(t *testing.T) {
	for _, path := range []string{state.MarkerPath, state.JournalPath} {
		m := newMachine(t)
		m.runs(app.ExitDone)
		m.writeFile(path, "{half")
		m.force = path == state.JournalPath
		if !m.force {
			m.is(state.Failed, "is damaged")
		}
		m.runs(app.ExitDone, path+" is damaged")
		m.is(state.Complete)
		if !m.h.Exists(path + ".damaged") {
			t.Errorf("the damaged %s was not renamed", path)
		}
	}
}

func TestNewerStateFileStopsTheRun(t *testing.T) {
	for _, path := range []string{state.MarkerPath, state.JournalPath} {
		m := newMachine(t)
		newer := `{"schema": 99}`
		m.writeFile(path, newer)
		m.is(state.Unknown, "has schema 99", "newer firstboot")
		m.runs(app.ExitFailed, "has schema 99", "use that version")
		if m.readFile(path) != newer || m.h.Exists("/etc/first") {
			t.Errorf("%s: the run continued", path)
		}
	}
}

func TestInterruptedRunIsContinuedByTheNext(t *testing.T) {
	m := newMachine(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	m.ctx = ctx
	m.stages[1].apply = func(ctx context.Context) error {
		cancel(&app.SignalError{Signal: syscall.SIGTERM})
		<-ctx.Done()
		return ctx.Err()
	}
	m.runs(app.ExitInterrupted, "second (2/3) interrupted", "the next run continues")
	m.ctx = t.Context()
	m.is(state.Failed, "Error:stopped by SIGTERM")
	if text := m.readFile(report.RunIssue); !strings.Contains(text, "did not finish, attempt 1") || !strings.Contains(text, "stopped by SIGTERM") {
		t.Errorf("login screen: %s", text)
	}
	m.stages[1].apply = nil
	m.runs(app.ExitDone, "first  (1/3) done", "(ok)")
}

func TestRunTimesOutAndReportsWhatItWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.writeFile("/etc/firstboot/config.yaml", validConfig+"timeouts: {total: 1s}\n")
		m.stages[0].check = func() error { return &engine.Wait{For: "etcd", Err: errors.New("connection refused")} }
		m.runs(app.ExitFailed, "first  (1/3) failed", "timed out after 1s (timeouts.total)")
		m.is(state.Failed, "waited for etcd: connection refused; timed out after 1s (timeouts.total)")
	})
}

func TestSecondRunNamesTheOneThatHoldsTheLock(t *testing.T) {
	m := newMachine(t)
	lock, err := state.AcquireLock(m.h, state.CommandRun)
	if err != nil {
		t.Fatal(err)
	}
	m.runs(app.ExitHeld, "pid ")
	m.is(state.Running, "PID:")
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	m.runs(app.ExitDone)
}

func TestRunFailsIfTheMarkerCannotBeWritten(t *testing.T) {
	m := newMachine(t)
	m.stages[2].apply = func(context.Context) error { return m.h.MkdirAll(state.MarkerPath + "/in/the/way") }
	m.runs(app.ExitFailed, "cannot write the completion marker")
	if got := m.readFile(state.JournalPath); !strings.Contains(got, `"state": "failed"`) {
		t.Errorf("journal %s", got)
	}
}

func TestJournalErrorIsReportedOnce(t *testing.T) {
	m := newMachine(t)
	m.stages[0].apply = func(context.Context) error {
		for _, path := range []string{state.ProgressPath, state.JournalPath} {
			if err := errors.Join(m.h.Remove(path), m.h.MkdirAll(path+"/in/the/way")); err != nil {
				return err
			}
		}
		return nil
	}
	m.runs(app.ExitFailed, "the run continues without its journal", "third  (3/3) done", "cannot write the journal")
	if n := strings.Count(m.out.String(), "continues without"); n != 1 {
		t.Errorf("reported %d times", n)
	}
	if m.h.Exists(state.MarkerPath) {
		t.Error("the run wrote the marker")
	}
}

func TestSecretsAreInNoOutput(t *testing.T) {
	m := newMachine(t)
	const secret = "correct-horse-battery"
	m.writeFile("/etc/firstboot/config.yaml", validConfig+"minions:\n  environment:\n    CALICO_LIBNETWORK_LABEL: "+secret+"\n")
	m.stages[1].apply = func(context.Context) error {
		return engine.WithHint(errors.New("bad answer from curl: "+secret), "not %s", secret)
	}
	m.runs(app.ExitFailed, "bad answer from curl: ***", "not ***")
	for path, text := range m.tree("/etc/firstboot", state.EffectivePath) {
		if strings.Contains(text, secret) {
			t.Errorf("%s contains the secret", path)
		}
	}
	if strings.Contains(m.out.String()+m.errs.String(), secret) {
		t.Errorf("the output contains the secret:\n%s%s", &m.out, &m.errs)
	}
}

func TestRunAndStatusReportAHostInMemory(t *testing.T) {
	m := newMachine(t)
	m.writeFile("/proc/self/mountinfo", "1 1 0:1 / / rw - tmpfs tmpfs rw\n")
	m.runs(app.ExitDone, "this host runs from memory; it joins again at each boot")
	m.is(state.Complete, "this host runs from memory")
}

// TestRunProtectsTheStateDirectory: a run creates it for root only, and corrects
// that of an earlier version, also on a complete host.
func TestRunProtectsTheStateDirectory(t *testing.T) {
	m := newMachine(t)
	dir := m.h.RealPath(state.Dir)
	check := func(when string) {
		t.Helper()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", when, info.Mode(), err)
		}
	}
	m.runs(app.ExitDone)
	check("created")
	for _, force := range []bool{false, true} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		m.force = force
		m.runs(app.ExitDone)
		check(fmt.Sprintf("existing, force %v", force))
	}
}

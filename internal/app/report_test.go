package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// reportServer is a provisioning server that hosts report to.
type reportServer struct {
	mu        sync.Mutex
	status    int // of its answers
	hosts     []string
	reports   []string
	onRequest func()
}

func (s *reportServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if s.onRequest != nil {
		s.onRequest()
	}
	s.reports, s.hosts = append(s.reports, string(body)), append(s.hosts, r.Header.Get("X-Firstboot-Host"))
	w.WriteHeader(s.status)
}

// newReportingMachine returns a machine whose configuration contains a secret and
// the URL of the returned server. Its systemd records the units that are
// restarted.
func newReportingMachine(t *testing.T) (*machine, *reportServer) {
	t.Helper()
	server := &reportServer{status: http.StatusOK}
	s := httptest.NewServer(server)
	t.Cleanup(s.Close)
	m := newMachine(t)
	m.systemd = &unitRecorder{}
	m.writeFile("/proc/sys/kernel/hostname", "web-1\n")
	m.writeFile("/etc/firstboot/config.yaml", validConfig+"node: {environment: {A: correct-horse}}\nreport: {url: \""+s.URL+"/done?token=hidden-token\"}\n")
	return m, server
}

// unitRecorder is a systemd that records the units that are restarted.
type unitRecorder struct {
	host.Systemd
	mu        sync.Mutex
	restarted []string
	onRestart func()
	err       error
}

func (u *unitRecorder) Restart(_ context.Context, name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.restarted = append(u.restarted, name)
	if u.onRestart != nil {
		u.onRestart()
	}
	return u.err
}

// wantDeliveries checks how often the service that delivers reports was started.
func (m *machine) wantDeliveries(n int) {
	m.t.Helper()
	if got := m.systemd.restarted; len(got) != n || slices.ContainsFunc(got, func(name string) bool { return name != units.ReportService }) {
		m.t.Errorf("restarted %q, want %d times %s", got, n, units.ReportService)
	}
}

// deliver does what the service does, and returns what it prints.
func (m *machine) deliver(ctx context.Context) (printed string, err error) {
	m.t.Helper()
	var b strings.Builder
	err = app.DeliverReport(ctx, m.options(), func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) })
	return b.String(), err
}

// last returns the last reported state and the text of the report.
func (s *reportServer) last(t *testing.T) (st state.State, text string) {
	t.Helper()
	if len(s.reports) == 0 {
		t.Fatal("nothing was reported")
	}
	text = s.reports[len(s.reports)-1]
	var status struct {
		State  state.State
		Stages []struct{ Name, State string }
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Stages) != 3 {
		t.Fatalf("%v: %s", err, text)
	}
	return status.State, text
}

func TestReportIsDeliveredOnceAfterCompletion(t *testing.T) {
	m, server := newReportingMachine(t)
	m.runs(app.ExitDone, "complete, ", units.ReportService+" reports the result to http://127.0.0.1")
	m.wantDeliveries(1)
	if len(server.reports) != 0 {
		t.Fatal("the run itself posted the report")
	}
	if info, err := os.Stat(m.h.RealPath(state.ReportPath)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	printed, err := m.deliver(t.Context())
	if err != nil || !strings.Contains(printed, "reported to http://127.0.0.1") || !strings.Contains(printed, ": the state of this host is complete") {
		t.Errorf("%v: %s", err, printed)
	}
	if st, text := server.last(t); st != state.Complete || !strings.Contains(text, `"finished":"2`) || server.hosts[0] != "web-1" {
		t.Errorf("%s reported %s", server.hosts, text)
	}
	if strings.Contains(m.out.String()+m.errs.String()+printed+server.reports[0], "hidden-token") {
		t.Error("the token is shown")
	}
	if m.h.Exists(state.ReportPath) {
		t.Error("a delivered report is left")
	}
	m.runs(app.ExitDone, "not re-checked")
	m.wantDeliveries(1)
	if printed, err := m.deliver(t.Context()); err != nil || printed != "nothing to report\n" || len(server.reports) != 1 {
		t.Errorf("%v: %s%v", err, printed, server.reports)
	}
}

// A server that does not answer must not delay the run, nor what waits for it.
func TestRunEndsBeforeItsReportIsDelivered(t *testing.T) {
	m, _ := newReportingMachine(t)
	m.systemd.onRestart = func() {
		if _, held := state.LockHolder(m.h); held {
			t.Error("the run holds the lock when the delivery starts")
		}
		if !m.h.Exists(state.MarkerPath) || !m.h.Exists(state.ReportPath) {
			t.Error("the delivery starts before the marker or the report is written")
		}
	}
	m.runs(app.ExitDone)
	m.wantDeliveries(1)
}

func TestUndeliveredReportIsDeliveredAtTheNextBoot(t *testing.T) {
	m, server := newReportingMachine(t)
	server.status = http.StatusForbidden
	m.runs(app.ExitDone)
	if _, err := m.deliver(t.Context()); err == nil || !strings.Contains(err.Error(), "403 Forbidden; this does not change the state of this host: complete") {
		t.Errorf("got %v", err)
	}
	m.is(state.Complete)
	m.writeFile("/proc/sys/kernel/random/boot_id", "boot2\n")
	m.runs(app.ExitDone, "not re-checked")
	m.wantDeliveries(2)
	server.status = http.StatusOK
	if _, err := m.deliver(t.Context()); err != nil {
		t.Error(err)
	}
	if st, _ := server.last(t); st != state.Complete || m.h.Exists(state.ReportPath) {
		t.Errorf("reported %s", st)
	}
}

func TestInterruptedDeliveryKeepsTheReport(t *testing.T) {
	m, server := newReportingMachine(t)
	server.status = http.StatusServiceUnavailable
	m.runs(app.ExitDone)
	ctx, cancel := context.WithCancelCause(t.Context())
	server.onRequest = func() { cancel(&app.SignalError{Signal: syscall.SIGTERM}) }
	if _, err := m.deliver(ctx); app.ExitCode(err) != app.ExitInterrupted || !m.h.Exists(state.ReportPath) {
		t.Errorf("got %v", err)
	}
}

// A run can replace the report while an earlier one is being posted.
func TestNewerReportIsDeliveredToo(t *testing.T) {
	m, server := newReportingMachine(t)
	fail := true
	m.stages[1].apply = func(context.Context) error {
		if fail {
			return errors.New("no")
		}
		return nil
	}
	m.runs(app.ExitFailed)
	server.onRequest = func() {
		server.onRequest, fail = nil, false
		m.runs(app.ExitDone)
	}
	if _, err := m.deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, _ := server.last(t); st != state.Complete || len(server.reports) != 2 || m.h.Exists(state.ReportPath) {
		t.Errorf("%d reports, the last is %s", len(server.reports), st)
	}
}

func TestReportThatMustNotBeDeliveredIsRemoved(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *machine)
		words  string
		fails  bool
	}{
		"a clone":            {func(m *machine) { m.writeFile("/etc/machine-id", "bbbb\n") }, "is about another machine (aaaa, this is bbbb)", false},
		"no url":             {func(m *machine) { _ = m.h.Remove(state.EffectivePath) }, "report.url is not set", false},
		"a damaged report":   {func(m *machine) { m.writeFile(state.ReportPath, "{half") }, "is damaged", true},
		"an incomplete file": {func(m *machine) { m.writeFile(state.ReportPath, `{"schema": 1}`) }, "it has no status", true},
	} {
		m, server := newReportingMachine(t)
		m.runs(app.ExitDone)
		c.change(m)
		printed, err := m.deliver(t.Context())
		if text := printed + fmt.Sprint(err); !strings.Contains(text, c.words) || (err != nil) != c.fails {
			t.Errorf("%s: %s", name, text)
		}
		if len(server.reports) != 0 || m.h.Exists(state.ReportPath) {
			t.Errorf("%s: the report was posted or is left", name)
		}
	}
}

func TestRunSucceedsIfTheDeliveryCannotBeStarted(t *testing.T) {
	m, _ := newReportingMachine(t)
	m.systemd.err = errors.New("no such unit")
	m.runs(app.ExitDone, "warning: cannot start "+units.ReportService, "no such unit; firstboot report delivers "+state.ReportPath)
	m.is(state.Complete)
}

func TestFailureAndRefusalAreReportedWithoutSecrets(t *testing.T) {
	m, server := newReportingMachine(t)
	m.stages[1].apply = func(context.Context) error { return errors.New("the server answered: correct-horse is wrong") }
	m.runs(app.ExitFailed)
	if text := m.readFile(state.ReportPath); strings.Contains(text, "correct-horse") || strings.Contains(text, "hidden-token") {
		t.Errorf("the file contains a secret: %s", text)
	}
	if _, err := m.deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, text := server.last(t); st != state.Failed || !strings.Contains(text, "*** is wrong") || strings.Contains(text, "correct-horse") {
		t.Errorf("reported %s", text)
	}
	m.stages[1].apply = func(context.Context) error {
		return &engine.Refusal{Findings: []engine.Difference{{Name: "x", Object: "correct-horse", Actual: "seen"}}}
	}
	m.runs(app.ExitRefused)
	if _, err := m.deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, text := server.last(t); st != state.Refused || strings.Contains(text, "correct-horse") {
		t.Errorf("reported %s", text)
	}
}

func TestPartialAndInterruptedRunsAreNotReported(t *testing.T) {
	m, _ := newReportingMachine(t)
	m.only = []string{"first"}
	m.runs(app.ExitDone)
	ctx, cancel := context.WithCancelCause(t.Context())
	m.only, m.ctx = nil, ctx
	m.stages[1].apply = func(ctx context.Context) error { cancel(context.Canceled); <-ctx.Done(); return ctx.Err() }
	m.runs(app.ExitInterrupted)
	m.wantDeliveries(0)
	if m.h.Exists(state.ReportPath) {
		t.Errorf("reported %s", m.readFile(state.ReportPath))
	}
}

func TestLongWaitIsReportedOnceForEachReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.systemd = &unitRecorder{}
		m.writeFile("/etc/firstboot/config.yaml", validConfig+"report: {url: \"http://127.0.0.1:1/\", waitingAfter: 5m}\n")
		start := time.Now()
		m.systemd.onRestart = func() {
			var pending state.Report
			if err := json.Unmarshal([]byte(m.readFile(state.ReportPath)), &pending); err != nil {
				t.Fatal(err)
			}
			switch n := len(m.systemd.restarted); {
			case n < 3 && (pending.State != state.Running || time.Since(start) < 5*time.Minute):
				t.Errorf("report %d after %v: %s", n, time.Since(start), pending.State)
			case n == 1 && !strings.Contains(string(pending.Status), `"waits_for": "etcd"`):
				t.Errorf("the report lacks what the stage waits for: %s", pending.Status)
			}
		}
		m.stages[0].check = func() error {
			switch waited := time.Since(start); {
			case waited < 10*time.Minute:
				return &engine.Wait{For: "etcd", After: 10 * time.Second}
			case waited < 20*time.Minute:
				return &engine.Wait{For: "the clock", After: 10 * time.Second}
			}
			return nil
		}
		m.runs(app.ExitDone)
		m.wantDeliveries(3)
	})
}

func TestShortWaitsAreNotReported(t *testing.T) {
	for _, after := range []string{"1h", "0"} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t)
			m.systemd = &unitRecorder{}
			m.writeFile("/etc/firstboot/config.yaml", validConfig+"report: {url: \"http://127.0.0.1:1/\", waitingAfter: "+after+"}\n")
			start := time.Now()
			m.stages[0].check = func() error {
				if time.Since(start) < 30*time.Minute {
					return &engine.Wait{For: "etcd", After: 10 * time.Second}
				}
				return nil
			}
			m.runs(app.ExitDone)
			m.wantDeliveries(1)
		})
	}
}

// While a stage waits, status must not claim that the run can succeed.
func TestStatusOfARunThatCannotSucceedNamesTheFailedStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.stages[1].after = nil
		m.stages[0].apply = func(context.Context) error { return errors.New("no such key") }
		checks := 0
		m.stages[1].check = func() error {
			if checks++; checks == 100 {
				m.is(state.Running, "this run will fail, because first failed")
			}
			return &engine.Wait{For: "Docker to start", Err: errors.New("docker.service is inactive")}
		}
		start := time.Now()
		m.runs(app.ExitFailed, "stopped waiting for Docker to start, because first failed", "failed after 1m")
		if took := time.Since(start); checks < 100 || took > 2*time.Minute {
			t.Errorf("%d checks in %v", checks, took)
		}
		m.is(state.Failed, "no such key", "stopped waiting for Docker to start", "second is not done")
	})
}

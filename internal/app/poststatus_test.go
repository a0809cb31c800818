package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

// reportServer is a provisioning server that hosts report to.
type reportServer struct {
	mu      sync.Mutex
	status  int // of its answers
	hosts   []string
	reports []string
}

func (s *reportServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	s.reports, s.hosts = append(s.reports, string(body)), append(s.hosts, r.Header.Get("X-Firstboot-Host"))
	w.WriteHeader(s.status)
}

// newReportingMachine returns a machine whose configuration contains a secret and
// the URL of the returned server.
func newReportingMachine(t *testing.T) (*machine, *reportServer) {
	t.Helper()
	server := &reportServer{status: http.StatusOK}
	s := httptest.NewServer(server)
	t.Cleanup(s.Close)
	m := newMachine(t)
	m.writeFile("/proc/sys/kernel/hostname", "web-1\n")
	m.writeFile("/etc/firstboot/config.yaml", validConfig+"node: {environment: {A: correct-horse}}\nreport: {url: \""+s.URL+"/done?token=hidden-token\"}\n")
	return m, server
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

func TestReportIsSentOnceAfterCompletion(t *testing.T) {
	m, server := newReportingMachine(t)
	m.runs(app.ExitDone, "complete, ", "reported to http://127.0.0.1", ": the state of this host is complete")
	if st, text := server.last(t); st != state.Complete || !strings.Contains(text, `"finished":"2`) || server.hosts[0] != "web-1" {
		t.Errorf("%s reported %s", server.hosts, text)
	}
	if strings.Contains(m.out.String()+m.errs.String()+server.reports[0], "hidden-token") {
		t.Error("the token is shown")
	}
	m.runs(app.ExitDone, "not re-checked")
	if len(server.reports) != 1 {
		t.Errorf("a complete host reported again: %v", server.reports)
	}
}

func TestFailureAndRefusalAreReportedWithoutSecrets(t *testing.T) {
	m, server := newReportingMachine(t)
	m.stages[1].apply = func(context.Context) error { return errors.New("the server answered: correct-horse is wrong") }
	m.runs(app.ExitFailed)
	if st, text := server.last(t); st != state.Failed || !strings.Contains(text, "*** is wrong") || strings.Contains(text, "correct-horse") {
		t.Errorf("reported %s", text)
	}
	m.stages[1].apply = func(context.Context) error {
		return &engine.Refusal{Findings: []engine.Difference{{Name: "x", Object: "correct-horse", Actual: "seen"}}}
	}
	m.runs(app.ExitRefused)
	if st, text := server.last(t); st != state.Refused || strings.Contains(text, "correct-horse") {
		t.Errorf("reported %s", text)
	}
}

func TestRejectedReportDoesNotChangeTheResult(t *testing.T) {
	m, server := newReportingMachine(t)
	server.status = http.StatusForbidden
	m.runs(app.ExitDone, "warning: cannot report to http://127.0.0.1", "403 Forbidden; this does not change the state of this host: complete")
	m.is(state.Complete)
	st, _ := server.last(t)
	if d := cmp.Diff(state.Complete, st); d != "" || len(server.reports) != 1 {
		t.Error(d, server.reports)
	}
}

func TestPartialAndInterruptedRunsAreNotReported(t *testing.T) {
	m, server := newReportingMachine(t)
	m.only = []string{"first"}
	m.runs(app.ExitDone)
	ctx, cancel := context.WithCancelCause(t.Context())
	m.only, m.ctx = nil, ctx
	m.stages[1].apply = func(ctx context.Context) error { cancel(context.Canceled); <-ctx.Done(); return ctx.Err() }
	m.runs(app.ExitInterrupted)
	if len(server.reports) > 0 {
		t.Errorf("reported %v", server.reports)
	}
}

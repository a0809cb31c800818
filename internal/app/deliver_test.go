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

// inbox is a provisioning server that hosts report to.
type inbox struct {
	mu     sync.Mutex
	status int
	hosts  []string
	got    []string
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	in.got, in.hosts = append(in.got, string(body)), append(in.hosts, r.Header.Get("X-Firstboot-Host"))
	w.WriteHeader(in.status)
}

// reporting is a machine whose configuration names an inbox and a secret.
func reporting(t *testing.T) (*machine, *inbox) {
	t.Helper()
	in := &inbox{status: http.StatusOK}
	s := httptest.NewServer(in)
	t.Cleanup(s.Close)
	m := newMachine(t)
	m.put("/proc/sys/kernel/hostname", "web-1\n")
	m.put("/etc/firstboot/config.yaml", validConfig+"node: {environment: {A: correct-horse}}\nreport: {url: \""+s.URL+"/done?token=hidden-token\"}\n")
	return m, in
}

// last is the state that was reported last.
func (in *inbox) last(t *testing.T) (st state.State, text string) {
	t.Helper()
	if len(in.got) == 0 {
		t.Fatal("nothing was reported")
	}
	text = in.got[len(in.got)-1]
	var s struct {
		State  state.State
		Stages []struct{ Name, State string }
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil || len(s.Stages) != 3 {
		t.Fatalf("%v: %s", err, text)
	}
	return s.State, text
}

func TestServerIsToldOnceThatTheHostIsComplete(t *testing.T) {
	m, in := reporting(t)
	m.runs(app.ExitDone, "complete, ", "told http://127.0.0.1", "that this host is complete")
	if st, text := in.last(t); st != state.Complete || !strings.Contains(text, `"finished":"2`) || in.hosts[0] != "web-1" {
		t.Errorf("%s reported %s", in.hosts, text)
	}
	if strings.Contains(m.out.String()+m.errs.String()+in.got[0], "hidden-token") {
		t.Error("the token is shown")
	}
	m.runs(app.ExitDone, "not re-checked")
	if len(in.got) != 1 {
		t.Errorf("a complete host reported again: %v", in.got)
	}
}

func TestServerIsToldOfFailureAndRefusalWithoutSecrets(t *testing.T) {
	m, in := reporting(t)
	m.stages[1].apply = func(context.Context) error { return errors.New("server said: correct-horse is wrong") }
	m.runs(app.ExitFailed)
	if st, text := in.last(t); st != state.Failed || !strings.Contains(text, "*** is wrong") || strings.Contains(text, "correct-horse") {
		t.Errorf("reported %s", text)
	}
	m.stages[1].apply = func(context.Context) error {
		return &engine.Refusal{Findings: []engine.Difference{{Name: "x", Object: "correct-horse", Actual: "seen"}}}
	}
	m.runs(app.ExitRefused)
	if st, text := in.last(t); st != state.Refused || strings.Contains(text, "correct-horse") {
		t.Errorf("reported %s", text)
	}
}

func TestServerThatDoesNotTakeItChangesNothing(t *testing.T) {
	m, in := reporting(t)
	in.status = http.StatusForbidden
	m.runs(app.ExitDone, "warning: cannot report to http://127.0.0.1", "403 Forbidden; the host is complete all the same")
	m.is(state.Complete)
	st, _ := in.last(t)
	if d := cmp.Diff(state.Complete, st); d != "" || len(in.got) != 1 {
		t.Error(d, in.got)
	}
}

func TestServerIsNotToldOfWhatIsNoEnd(t *testing.T) {
	m, in := reporting(t)
	m.only = []string{"first"}
	m.runs(app.ExitDone)
	ctx, cancel := context.WithCancelCause(t.Context())
	m.only, m.ctx = nil, ctx
	m.stages[1].apply = func(ctx context.Context) error { cancel(context.Canceled); <-ctx.Done(); return ctx.Err() }
	m.runs(app.ExitInterrupted)
	if len(in.got) > 0 {
		t.Errorf("reported %v", in.got)
	}
}

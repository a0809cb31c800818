package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

func messages(t *testing.T) (report.BootMessages, *host.Host) {
	h := host.New(t.TempDir())
	return report.BootMessages{State: h, Machine: h}, h
}

func read(t *testing.T, h *host.Host, path string) string {
	t.Helper()
	data, err := h.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLoginScreenShowsCauseHintAndCommand(t *testing.T) {
	b, h := messages(t)
	cause := &engine.Error{Order: []string{"minions"}, Stages: map[string]error{
		"minions": engine.WithHint(errors.New(`sha256 is aa, wanted bb\n`), "correct minions.sha256"),
	}}
	if err := b.Show(state.Failed, cause, report.Advise(state.Failed, report.Facts{}), epoch); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{report.RunIssue, report.RunMotd} {
		text := read(t, h, path)
		for _, part := range []string{"NOT a member", "2025-01-01 00:00:00 UTC", "stage minions: sha256 is aa", "correct minions.sha256", "next: the next boot continues", "type: systemctl start"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q:\n%s", path, part, text)
			}
		}
	}
	if text := read(t, h, report.RunIssue); !strings.Contains(text, `bb\\n`) {
		t.Errorf("agetty would interpret the backslash:\n%s", text)
	}
	if err := b.Clear(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{report.RunIssue, report.RunMotd} {
		if h.Exists(path) {
			t.Errorf("%s remains after Clear", path)
		}
	}
	if h.Readlink(report.IssueLink) != report.RunIssue {
		t.Errorf("%s is not a link to %s", report.IssueLink, report.RunIssue)
	}
}

// An earlier version of firstboot wrote a file instead of the link.
func TestMessageOfAnEarlierVersionIsReplaced(t *testing.T) {
	b, h := messages(t)
	old := func() {
		t.Helper()
		if err := h.WriteFile(report.IssueLink, []byte("attempt 1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old()
	if err := b.Show(state.Failed, errors.New("no"), report.Advice{}, epoch); err != nil || h.Readlink(report.IssueLink) != report.RunIssue {
		t.Errorf("%q, %v", h.Readlink(report.IssueLink), err)
	}
	if err := h.Remove(report.IssueLink); err != nil {
		t.Fatal(err)
	}
	old()
	if err := b.Clear(); err != nil || h.Exists(report.IssueLink) {
		t.Errorf("the message remains: %v", err)
	}
}

// TestLoginScreenShowsTheCurrentState plays the third attempt of a run.
func TestLoginScreenShowsTheCurrentState(t *testing.T) {
	b, h := messages(t)
	b.Attempt = 3
	l := report.NewLoginScreen(b, stages, epoch)
	shows := func(want ...string) {
		t.Helper()
		for _, path := range []string{report.RunIssue, report.RunMotd} {
			text := read(t, h, path)
			for _, part := range append(want, "attempt 3, ") {
				if !strings.Contains(text, part) {
					t.Errorf("%s lacks %q:\n%s", path, part, text)
				}
			}
		}
		if h.Exists("/etc") {
			t.Error("a run in progress wrote to /etc")
		}
	}
	shows("is joining its Calico network", "started at 2025-01-01 00:00:00 UTC", "the run continues by itself", "firstboot status --wait")
	at := func(seconds int, e engine.Event) {
		e.Time = epoch.Add(time.Duration(seconds) * time.Second)
		l.Event(e)
	}
	wait := engine.Event{Stage: "preflight", Kind: engine.Waiting, Message: "etcd at http://10.0.0.1:2379", Err: errors.New("connection\x1b[2J refused"), Since: epoch.Add(5 * time.Second)}
	at(20, wait)
	shows("preflight is waiting for etcd at http://10.0.0.1:2379 since 2025-01-01 00:00:05 UTC: connection?[2J refused")
	wait.Err = errors.New("no route to host")
	at(21, wait) // too soon after the last change
	shows("refused")
	at(31, wait)
	shows("no route to host")
	at(50, engine.Event{Stage: "preflight", Kind: engine.Done})
	at(70, engine.Event{Stage: "sysctl", Kind: engine.Failed, Err: errors.New("no such key")})
	shows("sysctl failed: no such key")
	if text := read(t, h, report.RunIssue); strings.Contains(text, "etcd") {
		t.Errorf("the wait is over, but still shown:\n%s", text)
	}
	at(90, engine.Event{Stage: "node", Kind: engine.Retrying, Attempt: 2, Err: errors.New("not ready")})
	shows("sysctl failed: no such key", "node failed in attempt 1 and is tried again: not ready")
	if err := b.ShowInterrupted("stopped by SIGTERM", report.Advise(state.Failed, report.Facts{}), epoch); err != nil {
		t.Fatal(err)
	}
	shows("NOT a member", "did not finish", "stopped by SIGTERM", "systemctl start firstboot-complete.target")
	if err := b.Show(state.Refused, errors.New("no"), report.Advice{}, epoch); err != nil {
		t.Fatal(err)
	}
	shows("was refused")
}

func TestRefusedRunWritesOnlyBelowRun(t *testing.T) {
	b, h := messages(t)
	show := func(s state.State) {
		t.Helper()
		if err := b.Show(s, errors.New("no"), report.Advise(s, report.Facts{Untouched: true}), epoch); err != nil {
			t.Fatal(err)
		}
	}
	show(state.Refused)
	if h.Exists("/etc") {
		t.Error("a refused run wrote to /etc")
	}
	if !strings.Contains(read(t, h, report.RunIssue), "nothing was changed") {
		t.Error("the message does not state that nothing was changed")
	}
	show(state.Failed)
	if text := read(t, h, report.RunIssue); !strings.Contains(text, "the run failed") {
		t.Errorf("login screen:\n%s", text)
	}
	show(state.Refused)
	if text := read(t, h, report.RunIssue); !strings.Contains(text, "was refused") {
		t.Errorf("login screen:\n%s", text)
	}
}

func TestLinkOfTheImageIsKept(t *testing.T) {
	b, h := messages(t)
	if err := h.Symlink(report.RunIssue, report.IssueLink); err != nil {
		t.Fatal(err)
	}
	if err := b.Show(state.Failed, errors.New("no"), report.Advice{}, epoch); err != nil {
		t.Fatal(err)
	}
	if err := b.Clear(); err != nil || h.Readlink(report.IssueLink) != report.RunIssue {
		t.Errorf("link to %q, %v", h.Readlink(report.IssueLink), err)
	}
}

func TestStatusJSONKeys(t *testing.T) {
	j := state.Journal{State: state.Failed, Machine: state.Machine{MachineID: "aaaa"}, Attempt: 2, Started: epoch}
	j.Stage("node").Error = "no"
	data, err := json.Marshal(report.FromJournal(j, stages))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	pending := func(name string) map[string]any {
		return map[string]any{"name": name, "state": "pending", "attempts": 0.0, "seconds": 0.0, "error": "", "hint": "", "next_retry": nil}
	}
	node := pending("node")
	node["error"] = "no"
	want := map[string]any{
		"state": "failed", "version": "", "config_digest": "", "machine": "aaaa", "attempt": 2.0,
		"started": "2025-01-01T00:00:00Z", "finished": nil,
		"stages": []any{pending("preflight"), pending("sysctl"), node},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStatusText(t *testing.T) {
	j := state.Journal{
		State: state.Running, Version: "v1.0.0", ConfigDigest: "sha256:0123456789abcdef0123", Machine: state.Machine{MachineID: "aaaa"},
		Attempt: 2, Started: epoch,
	}
	*j.Stage("preflight") = state.Stage{Name: "preflight", State: state.StageOK, Attempts: 1, Seconds: 0.4, Warnings: []string{"port 179 is odd"}}
	*j.Stage("node") = state.Stage{
		Name: "node", State: state.StageRunning, Attempts: 1, Seconds: 35, Error: "connection refused", WaitsFor: "etcd at http://10.0.0.1:2379",
		WaitSince: epoch.Add(5 * time.Second), NextRetry: epoch.Add(44 * time.Second),
	}
	s := report.FromJournal(j, stages)
	s.PID = 42
	s.Advice = report.Advise(state.Running, report.Facts{})
	var b bytes.Buffer
	if err := s.WriteText(&b, report.Terminal{}, epoch.Add(40*time.Second)); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/status.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("%s\n%s", d, b.String())
	}
}

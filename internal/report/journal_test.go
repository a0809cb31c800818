package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// entry is what a Journal sends.
type entry struct {
	Text     string
	Priority journal.Priority
	Fields   map[string]string
}

// recordingJournal returns a Journal and the entries that it sends.
func recordingJournal() (*Journal, *[]entry) {
	var sent []entry
	return &Journal{unit: "firstboot.service", send: func(text string, p journal.Priority, fields map[string]string) error {
		delete(fields, "SYSLOG_IDENTIFIER")
		delete(fields, "OBJECT_SYSTEMD_UNIT")
		sent = append(sent, entry{text, p, fields})
		return nil
	}}, &sent
}

func TestJournalEntriesHavePriorityStageAttemptAndCause(t *testing.T) {
	j, sent := recordingJournal()
	c := NewConsole(j, Terminal{}, []string{"docker", "node"})
	now := time.Now()
	refused := fault.New(fault.Transient, fault.Refused, errors.New("connection\nrefused"))
	event := func(kind engine.Kind, e engine.Event) {
		e.Stage, e.Kind, e.Time, e.Since, e.Next = "node", kind, now, now, now.Add(3*time.Second)
		c.Event(e)
	}
	event(engine.Waiting, engine.Event{Attempt: 1, Message: "etcd", Err: refused})
	event(engine.Retrying, engine.Event{Attempt: 2, Err: refused})
	event(engine.Warned, engine.Event{Attempt: 2, Message: "port 179 is used"})
	event(engine.Failed, engine.Event{Attempt: 2, Err: engine.WithHint(errors.New("no such image"), "set node.image")})
	c.Event(engine.Event{Stage: "docker", Kind: engine.Done, Attempt: 1, Time: now, Since: now})
	c.Printf("complete, 3s")
	c.Close()
	field := func(stage, attempt string, more ...string) map[string]string {
		fields := map[string]string{"FIRSTBOOT_STAGE": stage, "FIRSTBOOT_ATTEMPT": attempt}
		for i := 0; i < len(more); i += 2 {
			fields[more[i]] = more[i+1]
		}
		return fields
	}
	want := []entry{
		{"node   (2/2) waiting for etcd since " + timeOfDay(now) + " (0s): connection refused; next attempt in 3s", journal.PriNotice,
			field("node", "1", "FIRSTBOOT_CAUSE", "connection refused", "FIRSTBOOT_KIND", "refused")},
		{"node   (2/2) attempt 1 failed: connection refused; next attempt in 3s", journal.PriWarning,
			field("node", "1", "FIRSTBOOT_CAUSE", "connection refused", "FIRSTBOOT_KIND", "refused")},
		{"node   (2/2) warning: port 179 is used", journal.PriWarning, field("node", "2")},
		{"node   (2/2) failed, 0.0s: no such image", journal.PriErr, field("node", "2", "FIRSTBOOT_CAUSE", "no such image")},
		{"  hint: set node.image", journal.PriErr, field("node", "2", "FIRSTBOOT_CAUSE", "no such image")},
		{"docker (1/2) done, 0.0s (ok)", journal.PriInfo, field("docker", "1")},
		{"complete, 3s", journal.PriInfo, map[string]string{}},
	}
	if d := cmp.Diff(want, *sent); d != "" {
		t.Error(d)
	}
}

func TestLinesOfOtherCommandsBecomeEntries(t *testing.T) {
	j, sent := recordingJournal()
	for _, part := range []string{"firstboot: error: no", " disk\nfirstboot: hint: ", "df\nfirstboot: failed after 3.0s: node\nfirstboot: warn", "ing: old\nplain\n\n"} {
		if n, err := j.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	want := []entry{
		{"error: no disk", journal.PriErr, map[string]string{"FIRSTBOOT_CAUSE": "no disk"}},
		{"hint: df", journal.PriNotice, map[string]string{}},
		{"failed after 3.0s: node", journal.PriErr, map[string]string{}},
		{"warning: old", journal.PriWarning, map[string]string{}},
		{"plain", journal.PriInfo, map[string]string{}},
	}
	if d := cmp.Diff(want, *sent); d != "" {
		t.Error(d)
	}
}

func TestEntryThatCannotBeSentGoesToTheStream(t *testing.T) {
	var stream strings.Builder
	j := &Journal{stream: &stream, send: func(string, journal.Priority, map[string]string) error { return errors.New("no socket") }}
	j.Log(Line{Text: "failed", Priority: journal.PriErr})
	if stream.String() != "<3>failed\n" {
		t.Errorf("%q", &stream)
	}
}

func TestUnitOfAProcess(t *testing.T) {
	for cgroups, want := range map[string]string{
		"0::/system.slice/firstboot.service\n":                            "firstboot.service",
		"1:name=systemd:/system.slice/docker.service\n0::/\n":             "docker.service",
		"0::/user.slice/user-0.slice/session-1.scope\n":                   "",
		"12:cpu:/\n1:name=systemd:/system.slice/firstboot-disk.service\n": "firstboot-disk.service",
	} {
		if got := unitOf(cgroups); got != want {
			t.Errorf("%q: unit %q, want %q", cgroups, got, want)
		}
	}
}

func TestLastLineWithoutAnEndIsWritten(t *testing.T) {
	j, sent := recordingJournal()
	_, _ = j.Write([]byte("firstboot: warning: one\nfirstboot: half"))
	j.flush()
	j.flush()
	_, _ = j.Write([]byte(strings.Repeat("x", 5*maxLine)))
	var got []string
	for _, e := range *sent {
		got = append(got, e.Text)
	}
	want := []string{"warning: one", "half", strings.Repeat("x", 5*maxLine)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestConsoleGetsEveryLineAndNeverBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tty")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j, _ := recordingJournal()
	j.console = openConsole(path)
	j.Log(Line{Text: "complete, 3s"})
	j.console.close()
	j.Log(Line{Text: "too late"})
	if text, err := os.ReadFile(path); err != nil || string(text) != "firstboot: complete, 3s\n" {
		t.Errorf("%q, %v", text, err)
	}
	full := &console{lines: make(chan string, 1), done: make(chan struct{})} // nobody reads it
	for range 3 {
		full.write("line")
	}
	if openConsole("") != nil || openConsole(filepath.Join(path, "nothing")) != nil {
		t.Error("a console that does not exist was opened")
	}
}

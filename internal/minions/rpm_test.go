package minions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/host"
)

// rpm is an executor that answers the subcommands of rpm and keeps what it ran.
type rpm struct {
	answers map[string]string // by first argument; "!TEXT" fails with that text
	ran     []string
}

func (r *rpm) Run(_ context.Context, c host.Command) (host.Output, error) {
	r.ran = append(r.ran, c.String())
	answer, failed := strings.CutPrefix(r.answers[c.Args[0]], "!")
	if failed {
		return host.Output{Stdout: []byte(answer)}, &host.CommandError{Command: c.Name, ExitCode: 1, Stderr: answer}
	}
	return host.Output{Stdout: []byte(answer)}, nil
}

func TestInstalled(t *testing.T) {
	for answer, want := range map[string]string{
		"eru-minions-1.2.3-1 abc\n":               "eru-minions-1.2.3-1 abc",
		"!package eru-minions is not installed\n": "",
		"!error: cannot open Packages database":   "cannot query rpm",
		"!error: db5 error(13) Permission denied": "cannot query rpm",
	} {
		got, err := Installed(t.Context(), host.New(t.TempDir(), host.WithExecutor(&rpm{answers: map[string]string{"-q": answer}})))
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s: got %q", answer, got)
		}
	}
}

// TestQueryCreatesNoDatabase: on a host that uses dpkg even a query would.
func TestQueryCreatesNoDatabase(t *testing.T) {
	run := &rpm{answers: map[string]string{"--eval": "/root/.rpmdb\n", "-q": "eru-minions-1.2.3-1 abc"}}
	h := host.New(t.TempDir(), host.WithExecutor(run))
	if err := h.WriteFile("/var/lib/dpkg/status", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Installed(t.Context(), h); got != "" || err != nil || len(run.ran) != 1 {
		t.Errorf("got %q, %v after %q", got, err, run.ran)
	}
	if err := h.MkdirAll("/root/.rpmdb"); err != nil {
		t.Fatal(err)
	}
	if got, err := Installed(t.Context(), h); got == "" || err != nil {
		t.Errorf("with a database got %q, %v", got, err)
	}
}

// executor is one answer to each command.
type executor struct {
	stdout string
	err    error
}

func (e executor) Run(context.Context, host.Command) (host.Output, error) {
	return host.Output{Stdout: []byte(e.stdout)}, e.err
}

// TestChanged: only an rpm that has compared all files lists what has changed.
func TestChanged(t *testing.T) {
	const changedConf, changedProgram = "S.5......    " + ConfPath + "\n", "..5......    /usr/bin/eru-minions\n"
	exit := func(code int) error { return &host.CommandError{Command: "rpm", ExitCode: code} }
	for name, c := range map[string]struct {
		executor
		want string
	}{
		"nothing":               {executor{"", nil}, "[] <nil>"},
		"the configuration":     {executor{changedConf, exit(1)}, "[] <nil>"},
		"the program":           {executor{changedConf + changedProgram, exit(1)}, "[" + strings.TrimSpace(changedProgram) + "] <nil>"},
		"no database":           {executor{"", exit(1)}, "[] cannot compare the files"},
		"killed":                {executor{changedConf, exit(-1)}, "[] cannot compare the files"},
		"timed out":             {executor{changedConf, &host.CommandError{Command: "rpm", ExitCode: 1, TimedOut: 1}}, "[] cannot compare the files"},
		"rpm cannot be started": {executor{changedConf, errors.New("no rpm")}, "[] cannot compare the files"},
	} {
		changed, err := Changed(t.Context(), host.New(t.TempDir(), host.WithExecutor(c.executor)), true)
		if got := fmt.Sprint(changed, " ", err); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// TestStamps: one file that cannot be read makes rpm read all.
func TestStamps(t *testing.T) {
	h := host.New(t.TempDir())
	write := func(path, data string) {
		t.Helper()
		if err := h.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const program, unit = "/usr/bin/eru-minions", "/usr/lib/systemd/system/eru-minions.service"
	packaged := []string{"/usr/bin", program, unit, ConfPath}
	write(program, "program")
	write(unit, "[Unit]\n")
	if stamps := Stamps(h, append(packaged, "/missing")); stamps != nil || Unchanged(h, stamps) {
		t.Errorf("with a file that is missing: %v", stamps)
	}
	stamps := Stamps(h, packaged)
	if len(stamps) != 2 || !Unchanged(h, stamps) {
		t.Errorf("got %v", stamps)
	}
	write(ConfPath, "A=2\n")
	if !Unchanged(h, stamps) {
		t.Error("the configuration counts")
	}
	write(program, "grammar") // as long
	if Unchanged(h, stamps) {
		t.Error("another file counts as unchanged")
	}
}

func TestLockedInstallationNamesTheHolder(t *testing.T) {
	run := &rpm{answers: map[string]string{"-U": "!error: can't create transaction lock on /var/lib/rpm/.rpm.lock"}}
	h := host.New(t.TempDir(), host.WithExecutor(run))
	for path, data := range map[string]string{
		"/proc/locks":  "1: POSIX  ADVISORY  READ  7 00:2d:5 0 EOF\n2: POSIX  ADVISORY  WRITE 8 00:2d:5 0 EOF\n3: POSIX  ADVISORY  WRITE 9 00:2d:5 0 EOF\n",
		"/proc/7/comm": "rpm\n", "/proc/8/comm": "dbus-daemon\n", "/proc/9/comm": "dnf\n",
	} {
		if err := h.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var locked *LockedError
	if err := Install(t.Context(), h, "/x.rpm"); !errors.As(err, &locked) || locked.Holder != "dnf (pid 9)" {
		t.Errorf("got %v, %+v", err, locked)
	}
	run.answers["-U"] = "!error: unpacking of archive failed"
	if err := Install(t.Context(), h, "/x.rpm"); err == nil || errors.As(err, new(*LockedError)) {
		t.Errorf("after another failure got %v", err)
	}
}

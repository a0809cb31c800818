package labtest

import (
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
)

// commandTimeout limits a command on a host. firstboot status takes 10 s under
// TCG, and some minutes if all machines are busy.
const commandTimeout = 5 * time.Minute

// Step runs one step of a scenario as a subtest and logs its duration. Later
// steps depend on earlier ones, so the test ends at the first failed step.
func Step(t *testing.T, name string, step func(t *testing.T)) {
	t.Helper()
	start := time.Now()
	ok := t.Run(name, step)
	// test/all.sh lists these lines.
	t.Logf("%6s  %s", time.Since(start).Round(time.Second), name)
	if !ok {
		t.FailNow()
	}
}

// Run runs a command on a host and returns its output, stdout before stderr. The
// test ends unless the command exits with code.
func Run(t *testing.T, h *lab.Host, code int, command string) string {
	t.Helper()
	r, err := h.Run(Within(t, commandTimeout), command)
	if err != nil {
		t.Fatal(err)
	}
	output := r.Stdout + r.Stderr
	if r.Code != code {
		t.Fatalf("%s: %q exited with %d, want %d:\n%s", h.Name, command, r.Code, code, output)
	}
	return output
}

// Unwrapped replaces all white space by single spaces: status wraps its lines.
func Unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }

// Contains fails the test for each part that is not in the text. It ignores how
// lines are wrapped.
func Contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(Unwrapped(text), Unwrapped(part)) {
			t.Errorf("missing %q in:\n%s", part, text)
		}
	}
}

// NotContains fails the test for each part that is in the text. It ignores how
// lines are wrapped.
func NotContains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(Unwrapped(text), Unwrapped(part)) {
			t.Errorf("unexpected %q in:\n%s", part, text)
		}
	}
}

// Equal fails the test if two texts differ. what names them in the message.
func Equal(t *testing.T, what, want, got string) {
	t.Helper()
	if want != got {
		t.Errorf("%s: want:\n%s\ngot:\n%s", what, want, got)
	}
}

// NoError ends the test if err is not nil.
func NoError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

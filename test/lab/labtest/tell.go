package labtest

import (
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
)

// askTime bounds a command on a host. firstboot status takes 10 s under TCG,
// and some minutes where every machine is busy.
const askTime = 5 * time.Minute

// Tell tells one story, with its time. What comes after it builds on its end,
// so the first that fails is the last.
func Tell(t *testing.T, name string, story func(t *testing.T)) {
	t.Helper()
	began := time.Now()
	ok := t.Run(name, story)
	t.Logf("%6s  %s", time.Since(began).Round(time.Second), name)
	if !ok {
		t.FailNow()
	}
}

// Do runs a command on a host, wants its exit code, and returns what it said.
func Do(t *testing.T, h *lab.Host, code int, command string) string {
	t.Helper()
	r, err := h.Run(Within(t, askTime), command)
	if err != nil {
		t.Fatal(err)
	}
	said := r.Stdout + r.Stderr
	if r.Code != code {
		t.Fatalf("%s: %q ended with %d, want %d:\n%s", h.Name, command, r.Code, code, said)
	}
	return said
}

// Says wants every part in what was said.
func Says(t *testing.T, said string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q:\n%s", part, said)
		}
	}
}

// Silent wants no part in what was said.
func Silent(t *testing.T, said string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(said, part) {
			t.Errorf("it says %q:\n%s", part, said)
		}
	}
}

// Same wants two looks at the same thing to have seen the same.
func Same(t *testing.T, what, before, after string) {
	t.Helper()
	if before != after {
		t.Errorf("%s changed; before:\n%s\nafter:\n%s", what, before, after)
	}
}

// Must ends the story with an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

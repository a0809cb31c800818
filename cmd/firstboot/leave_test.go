package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
)

// This test calls validate only: leave itself would act on this machine.
func TestLeaveNeedsConsent(t *testing.T) {
	machine, image := host.New("/"), host.New(t.TempDir())
	for name, c := range map[string]struct {
		flags       leaveFlags
		h           *host.Host
		interactive bool
		refused     bool
	}{
		"a terminal, which prompts later": {leaveFlags{}, machine, true, false},
		"no terminal":                     {leaveFlags{}, machine, false, true},
		"no terminal, --force":            {leaveFlags{force: true}, machine, false, true},
		"no terminal, --yes":              {leaveFlags{yes: true}, machine, false, false},
		"--plan changes nothing":          {leaveFlags{plan: true}, machine, false, false},
		"--plan and --yes":                {leaveFlags{plan: true, yes: true}, machine, true, true},
		"a root directory":                {leaveFlags{yes: true}, image, true, true},
	} {
		err := c.flags.validate(c.h, c.interactive)
		if (err != nil) != c.refused || c.refused && app.ExitCode(err) != app.ExitUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLeavePromptNamesTheHost(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "yes\n": true, "\n": false, "": false, "n\n": false, "Y es\n": false, "y": false} {
		var out bytes.Buffer
		if got := confirmLeave(strings.NewReader(answer), &out); got != want {
			t.Errorf("the answer %q means %v", answer, got)
		}
		if !strings.HasPrefix(out.String(), "This host (") || !strings.HasSuffix(out.String(), "[y/N] ") {
			t.Errorf("prompt %q", &out)
		}
	}
}

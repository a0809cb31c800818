package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// This test calls validate only: a seal of the live machine would remove the
// identity of the machine that runs the tests.
func TestSealOfTheRunningMachineNeedsConsent(t *testing.T) {
	machine, image := host.New("/"), host.New(t.TempDir())
	for _, c := range []struct {
		name     string
		flags    sealFlags
		host     *host.Host
		terminal bool
		hint     string // of the usage error; "" if seal may continue
	}{
		{"nothing given", sealFlags{}, machine, false, "firstboot seal --this-machine"},
		{"nothing given, on a terminal", sealFlags{}, machine, true, "firstboot seal --this-machine"},
		{"--yes alone", sealFlags{yes: true}, machine, true, "firstboot seal --this-machine"},
		{"no terminal", sealFlags{thisMachine: true}, machine, false, "firstboot seal --this-machine --yes"},
		{"a terminal, which prompts later", sealFlags{thisMachine: true}, machine, true, ""},
		{"--yes without a terminal", sealFlags{thisMachine: true, yes: true}, machine, false, ""},
		{"--check changes nothing", sealFlags{check: true}, machine, false, ""},
		{"--plan changes nothing", sealFlags{plan: true}, machine, false, ""},
		{"--check and --plan", sealFlags{check: true, plan: true}, machine, true, "firstboot seal --check"},
		{"--root", sealFlags{}, image, false, ""},
		{"--root and --this-machine", sealFlags{thisMachine: true, yes: true}, image, false, "firstboot seal --root " + image.Root()},
	} {
		err := c.flags.validate(c.host, c.terminal)
		var usage *app.UsageError
		switch {
		case c.hint == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.hint != "" && (!errors.As(err, &usage) || !strings.Contains(engine.Hint(err), c.hint)):
			t.Errorf("%s: %v (hint %q), want a usage error with the hint %q", c.name, err, engine.Hint(err), c.hint)
		}
	}
}

func TestSealPromptNamesTheMachineAndWhatIsRemoved(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for answer, want := range map[string]bool{"y\n": true, "yes\n": true, "": false, "\n": false, "n\n": false, "y": false, "yesterday\n": false} {
		var out bytes.Buffer
		got := confirmSeal(strings.NewReader(answer), &out, []golden.Identity{{Name: "machine-id", Path: "/etc/machine-id", Action: "empty"}})
		if got != want {
			t.Errorf("answer %q: %v, want %v", answer, got, want)
		}
		for _, part := range []string{"/etc/machine-id", "(" + name + ")", "[y/N]"} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("the prompt does not contain %q: %s", part, out.String())
			}
		}
	}
}

// A second name of the machine's / must not turn the running machine into an image.
func TestRootDirectoryRecognisesTheRunningMachine(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "image")
	if err := os.Symlink("/", link); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"/": "/", "//": "/", "/..": "/", "/proc/self/root": "/", link: "/", dir: dir} {
		if got, err := rootDirectory(name); err != nil || got != want {
			t.Errorf("rootDirectory(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", dir + "/missing"} {
		if got, err := rootDirectory(name); err == nil {
			t.Errorf("rootDirectory(%q) = %q, want an error", name, got)
		}
	}
}

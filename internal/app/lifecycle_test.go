package app_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// life is a machine, and what a person who watched every command knows about it.
type life struct {
	t       *testing.T
	rt      *rapid.T
	root    string
	version int
	machine int  // number of the machine-id
	broken  bool // the stage second cannot be applied

	passed bool // the last check of every stage may have passed, and nothing was changed since
	left   knowledge
	log    []string
}

// knowledge is what is known about a fact after a power cut.
type knowledge int

const (
	no knowledge = iota
	perhaps
	yes
)

// command is one command on the machine.
type command struct {
	*machine
	cutAt    int64 // the number of the file operation before which the power fails; 0: never
	cut      atomic.Bool
	applied  atomic.Bool
	done     atomic.Int64 // stages whose last check passed
	complete bool         // by the marker, before the command
}

// newCommand returns a command whose power fails at a random file operation, or
// never.
func (l *life) newCommand(t *rapid.T) *command {
	c := &command{machine: newMachineAt(l.root)}
	c.t, c.version = l.t, fmt.Sprintf("v%d", l.version)
	c.complete = l.complete()
	if rapid.IntRange(0, 2).Draw(t, "cut") == 0 {
		c.cutAt = rapid.Int64Range(1, 40).Draw(t, "operation")
	}
	c.onStep = func(string, string) {
		if c.steps.Load() == c.cutAt {
			c.cut.Store(true)
		}
		if c.cut.Load() {
			runtime.Goexit() // nothing is written any more
		}
	}
	apply := func(context.Context) error {
		c.applied.Store(true)
		return nil
	}
	for _, s := range c.stages {
		s.apply = apply
	}
	if l.broken {
		c.stages[1].apply = func(context.Context) error {
			c.applied.Store(true)
			return errors.New("broken")
		}
	}
	for _, step := range []string{"autostart", "node"} {
		c.leaving[step] = apply
	}
	c.events = func(e engine.Event) {
		if e.Kind == engine.Done && !c.cut.Load() {
			c.done.Add(1)
		}
	}
	return c
}

// execute runs a command until it ends or the power fails, and returns its exit
// code.
func (c *command) execute(f func() int) int {
	code, ended := -1, make(chan struct{})
	go func() {
		defer close(ended)
		code = f()
	}()
	<-ended
	return code
}

// status returns the status. It must always be possible.
func (l *life) status() (s statusOf) {
	m := newMachineAt(l.root)
	m.t, m.version = l.t, fmt.Sprintf("v%d", l.version)
	status, err := app.Status(l.t.Context(), m.options())
	if err != nil {
		l.fail("status: %v", err)
	}
	return statusOf{status.State, fmt.Sprintf("%+v", status)}
}

// complete reports whether the records state that the host is complete.
func (l *life) complete() bool {
	recorded, err := app.RecordedStatus(newMachineAt(l.root).options())
	if err != nil {
		l.fail("status: %v", err)
	}
	return recorded.State == state.Complete
}

type statusOf struct {
	State state.State
	text  string
}

// run is a run of all stages, or with --stage second.
func (l *life) run(t *rapid.T, force, selected, boot bool) {
	c := l.newCommand(t)
	c.force = force
	stages := int64(3)
	if selected {
		c.only, stages = []string{"second"}, 2
	}
	if boot {
		l.write("/proc/self/cgroup", "0::/system.slice/firstboot.service\n")
		defer l.write("/proc/self/cgroup", "0::/user.slice\n")
	}
	code := c.execute(c.run)
	l.log = append(l.log, fmt.Sprintf("run force=%v selected=%v boot=%v broken=%v cut at %d: %d", force, selected, boot, l.broken, c.cutAt, code))
	passed := c.done.Load() == stages
	switch {
	case !c.applied.Load() && !passed: // nothing was changed
	case selected:
		l.passed = l.passed && c.complete && passed
	default:
		l.passed = passed
	}
	enabled := host.New(l.root).Exists(serviceLink)
	if boot && l.left == yes && !enabled {
		if !c.cut.Load() && code != app.ExitLeft || c.done.Load() > 0 {
			l.fail("a boot of a host that left returned %d", code)
		}
		return
	}
	switch {
	case selected || c.complete && !force:
	case c.cut.Load() || boot && !enabled:
		l.left = min(l.left, perhaps)
	case code == app.ExitDone || code == app.ExitFailed && len(c.errs.String()) > 0 && c.done.Load() > 0:
		l.left = no
	}
	if code == app.ExitDone && !selected && (!c.complete || force) {
		if got := l.status(); got.State != state.Complete {
			l.fail("a run passed, but the status is %s", got.text)
		}
	}
}

func (l *life) leave(t *rapid.T) {
	c := l.newCommand(t)
	code := c.execute(c.leave)
	l.log = append(l.log, fmt.Sprintf("leave cut at %d: %d", c.cutAt, code))
	if c.applied.Load() {
		l.passed = false
	}
	switch {
	case code == app.ExitDone:
		l.left, l.passed = yes, false
	case l.left == no:
		l.left = perhaps
	}
}

// seal seals the machine. The next boot gives it another machine-id.
func (l *life) seal(t *rapid.T) {
	c := l.newCommand(t)
	h := host.New(l.root, append([]host.Option{host.Offline()}, c.options().Host...)...)
	c.execute(func() int {
		items, err := golden.Identities(h, golden.SealOptions{})
		if err != nil {
			l.fail("seal: %v", err)
		}
		for _, item := range items {
			if err := item.Remove(); err != nil {
				l.fail("seal: %v", err)
			}
		}
		return 0
	})
	l.log = append(l.log, fmt.Sprintf("seal cut at %d", c.cutAt))
	if c.steps.Load() > 1 {
		l.passed = false
	}
	l.left = min(l.left, perhaps)
	if !c.cut.Load() {
		l.left, l.passed = no, false
		if got := l.status(); got.State != state.NotStarted {
			l.fail("after seal the status is %s", got.text)
		}
	}
	if data, err := host.New(l.root).ReadFile("/etc/machine-id"); err != nil || len(data) == 0 {
		l.clone()
	}
}

// clone makes the files those of another machine.
func (l *life) clone() {
	l.machine++
	l.write("/etc/machine-id", fmt.Sprintf("%032d\n", l.machine))
	l.passed, l.left = false, min(l.left, perhaps)
	l.log = append(l.log, "clone")
}

// damage makes a state file unusable.
func (l *life) damage(t *rapid.T) {
	h := host.New(l.root)
	path := rapid.SampledFrom([]string{
		state.MarkerPath, state.JournalPath, state.RetiredPath, state.LeftPath, state.ManifestPath, state.EffectivePath,
	}).Draw(t, "file")
	kind := rapid.SampledFrom([]string{"half", "empty", "directory", "fifo"}).Draw(t, "damage")
	l.log = append(l.log, "damage "+path+": "+kind)
	if !h.Exists(path) {
		return
	}
	if path == state.MarkerPath {
		l.passed = false
	}
	if err := os.RemoveAll(h.RealPath(path)); err != nil {
		l.fail("%v", err)
	}
	var err error
	switch kind {
	case "half":
		l.write(path, `{"schema": 1, "ma`)
	case "empty":
		l.write(path, "")
	case "directory":
		err = os.MkdirAll(filepath.Join(h.RealPath(path), "x"), 0o700)
	case "fifo":
		err = unix.Mkfifo(h.RealPath(path), 0o600)
	}
	if err != nil {
		l.fail("%v", err)
	}
}

// breakStage makes the stage second fail, or repairs it.
func (l *life) breakStage() {
	if l.broken = !l.broken; l.broken {
		l.write("/etc/second", "drifted")
	}
	l.log = append(l.log, fmt.Sprintf("broken=%v", l.broken))
}

func (l *life) write(path, text string) {
	if err := host.New(l.root).WriteFile(path, []byte(text), 0o600); err != nil {
		l.fail("%v", err)
	}
}

func (l *life) fail(format string, args ...any) {
	l.rt.Helper()
	l.rt.Fatalf("%s\nafter\n%s", fmt.Sprintf(format, args...), strings.Join(l.log, "\n"))
}

// check compares the status with what is known.
func (l *life) check() {
	l.t.Helper()
	got := l.status()
	// The records alone must be true too: a boot does not examine the machine.
	if (got.State == state.Complete || l.complete()) && !l.passed {
		l.fail("complete, although the last check of every stage did not pass: %s", got.text)
	}
	if l.left == yes && got.State != state.Left {
		l.fail("the host left, but the status is %s", got.text)
	}
}

// Whatever happens to a host, in whatever order, and whenever the power fails: it
// is complete only if the last check of every stage passed, it stays out of the
// network until a person runs all stages, and a person can always complete it.
func TestStateOfAHostIsTrueAfterAnySequenceOfCommands(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		l := &life{t: t, rt: rt, root: m.root}
		events := map[string]func(){
			"run":         func() { l.run(rt, false, false, false) },
			"force":       func() { l.run(rt, true, false, false) },
			"stage":       func() { l.run(rt, false, true, false) },
			"force stage": func() { l.run(rt, true, true, false) },
			"boot":        func() { l.run(rt, false, false, true) },
			"leave":       func() { l.leave(rt) },
			"enable":      func() { l.write(serviceLink, "") },
			"seal":        func() { l.seal(rt) },
			"clone":       l.clone,
			"upgrade":     func() { l.version++ },
			"damage":      func() { l.damage(rt) },
			"drift":       func() { l.write("/etc/second", "drifted") },
			"break":       l.breakStage,
		}
		names := rapid.SampledFrom([]string{
			"run", "run", "force", "force", "stage", "stage", "force stage", "boot", "boot", "leave", "leave",
			"enable", "seal", "clone", "upgrade", "damage", "damage", "drift", "break",
		})
		if rapid.Bool().Draw(rt, "a member") {
			m.runs(app.ExitDone)
			l.passed = true
		}
		for _, name := range rapid.SliceOfN(names, 1, 12).Draw(rt, "events") {
			events[name]()
			l.check()
		}
		// A person fixes the cause and completes the host.
		last := newMachineAt(l.root)
		last.t, last.version, last.force = t, "last", true
		if code := last.run(); code != app.ExitDone {
			l.fail("run --force returned %d: %s%s", code, &last.out, &last.errs)
		}
		l.passed, l.left = true, no
		if got := l.status(); got.State != state.Complete {
			l.fail("run --force passed, but the status is %s", got.text)
		}
	})
}

package app_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestWaitReturnsWhenTheRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		entered, leave := make(chan struct{}), make(chan struct{})
		m.stages[1].apply = func(context.Context) error {
			close(entered)
			<-leave
			return nil
		}
		done := make(chan int)
		go func() { done <- m.run() }()
		<-entered
		observer := &machine{t: t, root: m.root, ctx: t.Context(), h: m.h, stages: newMachineAt(m.root).stages}
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var progress strings.Builder
		if timedOut, err := app.WaitForRun(short, observer.options(), &progress); !timedOut || err != nil {
			t.Errorf("timed out %v, %v", timedOut, err)
		}
		if got := progress.String(); got != "firstboot: the run is in progress: second\n" {
			t.Errorf("progress is %q", got)
		}
		close(leave)
		if timedOut, err := app.WaitForRun(t.Context(), observer.options(), &progress); timedOut || err != nil {
			t.Errorf("timed out %v, %v", timedOut, err)
		}
		if code := <-done; code != app.ExitDone {
			t.Errorf("exit code %d", code)
		}
	})
}

// systemdUnit is a systemd with one unit.
type systemdUnit struct {
	host.Systemd
	state host.UnitState
	err   error
}

func (u systemdUnit) Unit(context.Context, string) (host.UnitState, error) { return u.state, u.err }

func TestWaitExpectsARunThatTheServiceWillStart(t *testing.T) {
	notStarted := host.UnitState{Active: "inactive", FileState: "enabled", Result: "success"}
	for _, c := range []struct {
		name  string
		boot  string // of the journal
		unit  systemdUnit
		waits bool
	}{
		{"the run of this boot failed", "boot1", systemdUnit{state: host.UnitState{Active: "failed", FileState: "enabled", Result: "exit-code"}}, false},
		{"the service is starting", "boot1", systemdUnit{state: host.UnitState{Active: "activating", FileState: "enabled"}}, true},
		{"the run of an earlier boot failed", "boot0", systemdUnit{state: notStarted}, true},
		{"a manual run failed before the service started", "boot1", systemdUnit{state: notStarted}, false},
		{"the service is disabled", "boot0", systemdUnit{state: host.UnitState{Active: "inactive", FileState: "disabled", Result: "success"}}, false},
		{"systemd does not answer", "boot0", systemdUnit{err: errors.New("no answer")}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t)
			j := state.Journal{Schema: state.Schema, State: state.Failed, BootID: c.boot, Machine: state.Machine{MachineID: "aaaa"}}
			m.writeJSON(state.JournalPath, j)
			o := m.options()
			o.Host = append(o.Host, host.WithSystemd(c.unit))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			timedOut, err := app.WaitForRun(ctx, o, io.Discard)
			if err != nil || timedOut != c.waits {
				t.Errorf("%s: waits %v, %v", c.name, timedOut, err)
			}
		})
	}
}

package stages_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// startedInTheFuture is a unit's start before the clock of the host was set back: no
// file that is written now looks newer.
func (m *machine) startedInTheFuture(name string) {
	m.systemd.mu.Lock()
	defer m.systemd.mu.Unlock()
	m.systemd.unit(name).since = time.Now().Add(time.Hour)
}

// TestRestartIsNotForgottenWhileTheClockIsWrong: a run changes what a unit reads and
// cannot restart it, and the times do not show the next attempt what is left to do.
func TestRestartIsNotForgottenWhileTheClockIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		unit   string
		change func(*machine)
	}{
		"node":    {units.CalicoNode, func(m *machine) { m.override("node: {environment: {FELIX_X: '1'}}") }},
		"minions": {units.Minions, func(m *machine) { m.override("minions: {environment: {A: a}}") }},
	} {
		t.Run(name, func(t *testing.T) {
			m := withNode(t)
			m.mustApply("minions")
			c.change(m)
			m.startedInTheFuture(c.unit)
			unit := m.systemd.unit(c.unit)
			unit.refuses = 1
			if err := m.apply(t.Context(), name); !isError[*engine.Retry](err) {
				t.Fatalf("got %v, want a retry", err)
			}
			starts := unit.starts
			m.wantDifference(name, c.unit, "expected restarted")
			m.mustApply(name)
			if unit.starts != starts+1 {
				t.Errorf("it was restarted %d times", unit.starts-starts)
			}
		})
	}
}

// TestReloadIsNotForgottenWhileTheClockIsWrong of a daemon that reads a file of the
// stage config.
func TestReloadIsNotForgottenWhileTheClockIsWrong(t *testing.T) {
	t.Parallel()
	const manager = "NetworkManager.service"
	m := newMachine(t)
	m.put("/etc/NetworkManager/NetworkManager.conf", "")
	m.put(units.Dir+"/"+manager, "[Service]\n")
	m.boot(manager)
	failure, reloads := errors.New("Connection timed out"), 0
	m.systemd.programs[manager] = program{load: func() error {
		reloads++
		return failure
	}}
	m.startedInTheFuture(manager)
	if err := m.apply(t.Context(), "config"); !isError[*engine.Retry](err) {
		t.Fatalf("got %v, want a retry", err)
	}
	failure = nil
	wantWords(t, fmt.Sprint(m.check("config").Differences), manager+": has not read")
	m.mustApply("config")
	if reloads != 2 {
		t.Errorf("it was reloaded %d times", reloads)
	}
}

package app_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// unit is a systemd that knows one unit.
type unit struct {
	host.Systemd
	state host.UnitState
	err   error
}

func (u unit) Unit(context.Context, string) (host.UnitState, error) { return u.state, u.err }

func TestWaitKnowsARunThatIsStillToCome(t *testing.T) {
	fresh := host.UnitState{Active: "inactive", FileState: "enabled", Result: "success"}
	for _, c := range []struct {
		what  string
		boot  string // of the journal
		unit  unit
		waits bool
	}{
		{"this boot's run failed", "boot1", unit{state: host.UnitState{Active: "failed", FileState: "enabled", Result: "exit-code"}}, false},
		{"the service is at it again", "boot1", unit{state: host.UnitState{Active: "activating", FileState: "enabled"}}, true},
		{"the last boot's run failed, this one's is to come", "boot0", unit{state: fresh}, true},
		{"a run by hand failed before the service's", "boot1", unit{state: fresh}, false},
		{"nothing will start it", "boot0", unit{state: host.UnitState{Active: "inactive", FileState: "disabled", Result: "success"}}, false},
		{"systemd cannot be asked", "boot0", unit{err: errors.New("no")}, false},
	} {
		m := newMachine(t)
		j := state.Journal{State: state.Failed, BootID: c.boot, Machine: state.Machine{MachineID: "aaaa"}}
		if err := j.Save(m.h); err != nil {
			t.Fatal(err)
		}
		o := m.options()
		o.Host = append(o.Host, host.WithSystemd(c.unit))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		ranOut, err := app.WaitForRun(ctx, o, io.Discard)
		cancel()
		if err != nil || ranOut != c.waits {
			t.Errorf("%s: waits %v, %v", c.what, ranOut, err)
		}
	}
}

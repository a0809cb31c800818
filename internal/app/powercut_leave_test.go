package app_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/powercut"
)

// TestLeaveIsContinuedAfterEveryPowerCut: the next boot finds either the complete
// host, unchanged, or a host that it does not join again. leave then ends with the
// same files.
func TestLeaveIsContinuedAfterEveryPowerCut(t *testing.T) {
	m := newMember(t)
	member := m.kept()
	var want map[string]string
	powercut.Test(t, m.root, volatile, func(record host.Option) {
		m.recorded(record).leaves(app.ExitDone)
		want = withoutRecord(m.kept())
	}, func(t *testing.T, root string) {
		n := m.resumed(t, root)
		s, err := app.Status(t.Context(), n.options())
		if err != nil {
			t.Fatal(err)
		}
		if s.State == state.Complete {
			if d := cmp.Diff(member, withoutRecord(n.kept())); d != "" {
				t.Errorf("the status is complete, but: %s", d)
			}
		} else {
			n.boots(app.ExitLeft)
			for _, stage := range n.stages {
				if stage.checks.Load() > 0 {
					t.Errorf("the boot ran stage %s: the status was %+v", stage.name, s)
				}
			}
		}
		n.leaves(app.ExitDone)
		n.is(state.Left)
		if d := cmp.Diff(want, withoutRecord(n.kept())); d != "" {
			t.Error(d)
		}
	})
}

// withoutRecord removes the files that contain times, or the lock's holder.
func withoutRecord(files map[string]string) map[string]string {
	for _, path := range []string{state.LeftPath, state.RetiredPath, "/proc/self/cgroup"} {
		delete(files, path)
	}
	return files
}

func TestSelectedStagesOfACompleteHostAreTrueAfterEveryPowerCut(t *testing.T) {
	m := newMember(t)
	want := withoutRecord(m.kept())
	m.writeFile("/etc/first", "drifted")
	powercut.Test(t, m.root, volatile, func(record host.Option) {
		m.recorded(record).only = []string{"first"}
		m.runs(app.ExitDone)
	}, func(t *testing.T, root string) {
		n := m.resumed(t, root)
		n.boots(app.ExitDone)
		s, err := app.Status(t.Context(), n.options())
		if err != nil {
			t.Fatal(err)
		}
		if s.State == state.Complete {
			if d := cmp.Diff(want, withoutRecord(n.kept())); d != "" {
				t.Errorf("the status is complete, but: %s", d)
			}
			return
		}
		n.force = true
		n.runs(app.ExitDone)
		n.is(state.Complete)
	})
}

// seal seals the machine.
func (m *machine) seal() error {
	h := host.New(m.root, append([]host.Option{host.Offline()}, m.options().Host...)...)
	items, err := golden.Identities(h, golden.SealOptions{})
	for _, item := range items {
		if err == nil {
			err = item.Remove()
		}
	}
	return err
}

// TestSealedHostIsNotCompleteAfterAnyPowerCut: a host is complete only as long as
// seal has removed nothing. Another seal ends with the same files, and so does the
// next boot of a machine with a new identity.
func TestSealedHostIsNotCompleteAfterAnyPowerCut(t *testing.T) {
	m := newMember(t)
	m.writeFile("/var/lib/calico/nodename", "host1")
	member := m.kept()
	var want map[string]string
	powercut.Test(t, m.root, volatile, func(record host.Option) {
		if err := m.recorded(record).seal(); err != nil {
			t.Fatal(err)
		}
		want = m.kept()
	}, func(t *testing.T, root string) {
		n := m.resumed(t, root)
		s, err := app.Status(t.Context(), n.options())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(member, n.kept()); s.State == state.Complete && d != "" {
			t.Errorf("the status is complete, but: %s", d)
		}
		if err := n.seal(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, n.kept()); d != "" {
			t.Error(d)
		}
		n.writeFile("/etc/machine-id", "bbbb\n")
		n.is(state.NotStarted)
		n.boots(app.ExitDone)
		n.is(state.Complete, "Machine:bbbb")
	})
}

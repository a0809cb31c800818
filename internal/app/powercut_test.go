package app_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/powercut"
)

// volatile are the directories that no boot keeps.
var volatile = []string{"/run"}

// recorded is the option that records m's file operations.
func (m *machine) recorded(record host.Option) *machine {
	m.record = record
	return m
}

// resumed returns the machine whose disk a power cut left behind in root.
func (m *machine) resumed(t *testing.T, root string) *machine {
	n := newMachineAt(root)
	n.t, n.ctx, n.cmdline, n.web = t, t.Context(), m.cmdline, m.web
	n.writeFile("/proc/sys/kernel/random/boot_id", "boot2\n")
	return n
}

// kept returns the machine's files without those that hold times.
func (m *machine) kept() map[string]string {
	return withoutTemporary(m.tree(state.JournalPath, state.MarkerPath, "/run/", "/proc/sys/kernel/random/boot_id"))
}

// TestRunIsCompletedAfterEveryPowerCut loses and reorders what was not synced
// when the power failed, at each file operation of a run. The status is true, and
// the next run ends with the same files.
func TestRunIsCompletedAfterEveryPowerCut(t *testing.T) {
	m := newMachine(t)
	var want map[string]string
	powercut.Test(t, m.root, volatile, func(record host.Option) {
		m.recorded(record).runs(app.ExitDone)
		want = m.kept()
	}, func(t *testing.T, root string) {
		n := m.resumed(t, root)
		s, err := app.Status(t.Context(), n.options())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, n.kept()); s.State == state.Complete && d != "" {
			t.Errorf("the status is complete, but: %s", d)
		}
		n.runs(app.ExitDone)
		n.is(state.Complete)
		if d := cmp.Diff(want, n.kept()); d != "" {
			t.Error(d)
		}
	})
}

// TestForcedRunIsCompletedAfterEveryPowerCut does the same for a complete host
// whose edited configuration is applied.
func TestForcedRunIsCompletedAfterEveryPowerCut(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile("/etc/firstboot/config.yaml", "etcd: {endpoints: [\"http://10.0.0.1:2379\"]}\npool: {cidr: 10.214.0.0/16}\n")
	var want map[string]string
	powercut.Test(t, m.root, volatile, func(record host.Option) {
		m.recorded(record).force = true
		m.runs(app.ExitDone)
		want = m.kept()
	}, func(t *testing.T, root string) {
		n := m.resumed(t, root)
		if _, err := app.Status(t.Context(), n.options()); err != nil {
			t.Fatal(err)
		}
		n.force = true
		n.runs(app.ExitDone)
		n.is(state.Complete)
		if d := cmp.Diff(want, n.kept()); d != "" {
			t.Error(d)
		}
	})
}

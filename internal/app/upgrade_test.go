package app_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/state"
)

// TestOtherDefaultsAreAnUpgrade: a host that a firstboot with other defaults
// completed is complete; status and plan name the defaults.
func TestOtherDefaultsAreAnUpgrade(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	saved, err := m.h.ReadFile(state.EffectivePath)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Replace(string(saved), "blockSize: 26", "blockSize: 25", 1)
	old = strings.Replace(old, `    "net.netfilter.nf_conntrack_max": "1000000"`+"\n", "", 1)
	m.writeFile(state.EffectivePath, old)
	const want = "upgrade: this version of firstboot has other defaults for pool.blockSize, sysctl.net.netfilter.nf_conntrack_max; firstboot run --force applies them"
	status, err := app.Status(t.Context(), m.options())
	if err != nil || status.State != state.Complete || !strings.Contains(fmt.Sprint(status.Notes), want) {
		t.Errorf("status: %s %q, %v", status.State, status.Notes, err)
	}
	checks, err := app.Plan(t.Context(), m.options(), false)
	if err != nil || checks.Differing != 0 || !strings.Contains(fmt.Sprint(checks.Notes), want) {
		t.Errorf("plan: %+v, %v", checks, err)
	}
	m.force = true
	m.runs(app.ExitDone)
	if status, err := app.Status(t.Context(), m.options()); err != nil || len(status.Notes) != 0 || status.State != state.Complete {
		t.Errorf("after run --force: %s %q, %v", status.State, status.Notes, err)
	}
}

package report

import (
	"strings"
	"testing"
)

// FuzzUnit: the unit in /proc/PID/cgroup is the name of a service, or empty.
func FuzzUnit(f *testing.F) {
	for _, s := range []string{"0::/system.slice/firstboot.service\n", "1:name=systemd:/a\n0::/user.slice/session-1.scope", "/.service", "", "\xff\n/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, cgroups string) {
		unit := unitOf(cgroups)
		if unit != "" && (!strings.HasSuffix(unit, ".service") || strings.ContainsAny(unit, "/\n")) {
			t.Errorf("%q", unit)
		}
	})
}

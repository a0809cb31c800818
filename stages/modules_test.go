package stages_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/engine"
)

// TestModulesThatAreBuiltInAreNotLoaded covers kernels without loadable modules.
func TestModulesThatAreBuiltInAreNotLoaded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrange func(*machine)
		want    string // the modules to load at boot
	}{
		"listed as built in": {builtIn, "nf_conntrack ip_tables ip6_tables xt_set"},
		"not listed":         {working, ""},
	} {
		m := newMachine(t)
		m.modules = map[string]bool{}
		c.arrange(m)
		m.mustApply("sysctl")
		if steps := m.stepsWith("module "); len(steps) > 0 {
			t.Errorf("%s: loaded %q", name, steps)
		}
		_, list, _ := strings.Cut(m.get(modulesFile), "\n")
		if got := strings.Join(strings.Fields(list), " "); got != c.want {
			t.Errorf("%s: loads %q at boot, want %q", name, got, c.want)
		}
	}
}

func TestModulesOfAnotherKernelAreNotBuiltIn(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	builtIn(m)
	m.put("/proc/sys/kernel/osrelease", "6.2.0\n")
	m.remove("/proc/sys/net/netfilter")
	f := m.check("sysctl")
	if !slices.ContainsFunc(f.Differences, func(d engine.Difference) bool { return d.Object == "kernel module xt_set" }) {
		t.Errorf("no difference for xt_set: %v", f.Differences)
	}
}

// TestIgnoredModulesAreWarnings checks that preflight.ignore also covers the stage
// that loads the modules.
func TestIgnoredModulesAreWarnings(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.modules["xt_set"] = false
	if err := m.apply(t.Context(), "sysctl"); err == nil {
		t.Error("a missing module is not an error")
	}
	m.override("preflight: {ignore: [kernel-modules]}")
	m.mustApply("sysctl")
	f := m.check("sysctl")
	if len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "xt_set: not found") {
		t.Errorf("warnings: %q", f.Warnings)
	}
	if list := m.get(modulesFile); strings.Contains(list, "xt_set") || !strings.Contains(list, "nf_conntrack") {
		t.Errorf("loaded at boot: %s", list)
	}
	m.modules["xt_set"] = true // its package has been installed
	m.mustApply("sysctl")
	if list := m.get(modulesFile); !strings.Contains(list, "xt_set") || !fileExists(m.file("/sys/module/xt_set")) {
		t.Errorf("not loaded, now or at boot: %s", list)
	}
}

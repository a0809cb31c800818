package stages

import (
	"context"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// modules returns the kernel modules that the host needs. The key of
// nf_conntrack does not exist before the module is loaded. The others are those
// that calicoctl loads for Felix, which cannot load modules from inside its
// container.
func modules(c *config.Config) []string {
	list := []string{"nf_conntrack", "ip_tables", "ip6_tables", "xt_set"}
	if c.Pool.IPIP != config.IPIPNever {
		list = append(list, "ipip")
	}
	return list
}

// provides reports whether the kernel has what a module provides: the module is
// loaded or built in, or its files in /proc exist. A kernel that was built for
// one machine often has no list of its modules.
func (e *Env) provides(module string) bool {
	if e.Host.ModuleLoaded(module) || e.Host.ModuleBuiltIn(module) {
		return true
	}
	switch module {
	case "nf_conntrack":
		return e.Host.Exists("/proc/sys/net/netfilter/nf_conntrack_max")
	case "ip_tables", "ip6_tables":
		return e.Host.Exists("/proc/net/" + module + "_names")
	case "xt_set":
		return e.hasMatch("set")
	case "ipip":
		return e.Host.Exists("/proc/sys/net/ipv4/conf/tunl0")
	}
	return false
}

// hasMatch reports whether iptables has a match of this name.
func (e *Env) hasMatch(name string) bool {
	for _, path := range []string{"/proc/net/ip_tables_matches", "/proc/net/ip6_tables_matches"} {
		matches, err := e.Host.ReadFile(path)
		if err == nil && slices.Contains(strings.Fields(string(matches)), name) {
			return true
		}
	}
	return false
}

// loadable reports whether a module is loaded now or can be loaded at boot.
func (e *Env) loadable(ctx context.Context, module string) bool {
	return e.Host.ModuleLoaded(module) || e.Host.ModuleBuiltIn(module) || e.Host.ModuleAvailable(ctx, module)
}

// bootModules returns the modules to load at every boot: systemd reports a
// failure at each boot for one that cannot be found. A module that the host
// needs and that cannot be found stays in the list, unless kernel-modules is
// ignored, so that a later check finds the difference.
func (e *Env) bootModules(ctx context.Context) []string {
	list := modules(e.Config)
	if e.Host.IsOffline() {
		return list // a directory has no kernel
	}
	return slices.DeleteFunc(list, func(m string) bool {
		return (e.provides(m) || e.ignores("kernel-modules")) && !e.loadable(ctx, m)
	})
}

// checkModules adds a difference for each module that the kernel lacks, or a
// warning if it cannot be found and kernel-modules is ignored.
func (s sysctl) checkModules(ctx context.Context, f *engine.CheckResult) {
	for _, m := range modules(s.Config) {
		switch {
		case s.provides(m):
		case s.ignores("kernel-modules") && !s.loadable(ctx, m):
			f.Warn("kernel module %s: not found", m)
		default:
			f.Add(engine.Difference{Object: "kernel module " + m, Actual: "not loaded", Expected: "loaded"})
		}
	}
}

// loadModules loads the modules that the kernel lacks.
func (s sysctl) loadModules(ctx context.Context) error {
	for _, m := range modules(s.Config) {
		if s.provides(m) || s.ignores("kernel-modules") && !s.loadable(ctx, m) {
			continue
		}
		if err := s.Host.LoadModule(ctx, m); err != nil {
			return engine.WithHint(err, "install the modules of the running kernel (a package such as linux-modules-extra)")
		}
	}
	return nil
}

package stages

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

const (
	modulesPath = "/etc/modules-load.d/firstboot.conf"
	// systemd-sysctl applies files in the order of their names. This name sorts
	// after 99-sysctl.conf, the link to /etc/sysctl.conf.
	sysctlPath = "/etc/sysctl.d/99-zz-firstboot.conf"
)

// sysctl loads the kernel modules and sets the sysctl keys that containers'
// traffic needs, now and at every boot.
type sysctl struct{ *Env }

func (sysctl) Name() string    { return "sysctl" }
func (sysctl) After() []string { return []string{"preflight"} }

// modules returns the kernel modules to load. The key of nf_conntrack does not
// exist before the module is loaded. The others are those that calicoctl loads
// for Felix, which cannot load modules from inside its container.
func modules(c *config.Config) []string {
	list := []string{"nf_conntrack", "ip_tables", "ip6_tables", "xt_set"}
	if c.Pool.IPIP != config.IPIPNever {
		list = append(list, "ipip")
	}
	return list
}

// files returns the files that repeat the settings at every boot.
func (s sysctl) files() []file {
	var settings strings.Builder
	settings.WriteString(fileHeader)
	for _, key := range slices.Sorted(maps.Keys(s.Config.Sysctl)) {
		fmt.Fprintf(&settings, "%s = %s\n", key, s.Config.Sysctl[key])
	}
	return []file{
		{modulesPath, []byte(fileHeader + strings.Join(modules(s.Config), "\n") + "\n"), 0o644},
		{sysctlPath, []byte(settings.String()), 0o644},
	}
}

func (s sysctl) Check(context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	for _, want := range s.files() {
		want.check(s.Host, &f)
	}
	if s.Host.IsOffline() {
		return f, host.ErrOffline // a directory has no kernel
	}
	for _, m := range modules(s.Config) {
		if !s.Host.ModuleLoaded(m) {
			f.Add(engine.Difference{Object: "kernel module " + m, Actual: "not loaded", Expected: "loaded"})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Config.Sysctl)) {
		want := normalize(s.Config.Sysctl[key])
		seen, err := s.Host.Sysctl(key)
		switch {
		case host.NotExist(err):
			f.Add(engine.Difference{
				Object: key, Actual: "the kernel has no such key", Expected: want,
				Fix: "load the module that provides the key, or remove the key from sysctl in the configuration",
			})
		case err != nil:
			return f, err
		case seen != want:
			f.Add(engine.Difference{Object: key, Actual: seen, Expected: want})
		}
	}
	return f, nil
}

// normalize returns a value as the kernel prints it, with one space between
// fields.
func normalize(value string) string { return strings.Join(strings.Fields(value), " ") }

func (s sysctl) Apply(ctx context.Context, _ engine.Progress) error {
	for _, f := range s.files() {
		if err := f.write(s.Host); err != nil {
			return err
		}
	}
	for _, m := range modules(s.Config) {
		if s.Host.ModuleLoaded(m) {
			continue
		}
		if err := s.Host.LoadModule(ctx, m); err != nil {
			return engine.WithHint(err, "install the modules of the running kernel (a package such as linux-modules-extra)")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Config.Sysctl)) {
		want := normalize(s.Config.Sysctl[key])
		if seen, err := s.Host.Sysctl(key); err == nil && seen == want {
			continue
		}
		if err := s.Host.SetSysctl(key, want); err != nil {
			return err
		}
	}
	return nil
}

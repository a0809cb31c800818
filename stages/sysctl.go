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
	// systemd-sysctl applies files in the order of their names; this one is
	// after 99-sysctl.conf, the link to /etc/sysctl.conf.
	sysctlPath = "/etc/sysctl.d/99-zz-firstboot.conf"
)

// sysctl loads the kernel modules and sets the kernel settings that routing
// for containers needs, now and at every boot.
type sysctl struct{ *Env }

func (sysctl) Name() string    { return "sysctl" }
func (sysctl) After() []string { return []string{"preflight"} }

// modules are needed before their settings exist (nf_conntrack) and by Felix,
// which cannot load them from inside its container (xt_set, ip6_tables: the
// ones that calicoctl loads).
func modules(c *config.Config) []string {
	list := []string{"nf_conntrack", "ip_tables", "ip6_tables", "xt_set"}
	if c.Pool.IPIP != config.IPIPNever {
		list = append(list, "ipip")
	}
	return list
}

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
	for _, m := range modules(s.Config) {
		if !s.Host.ModuleLoaded(m) {
			f.Add(engine.Difference{Object: "kernel module " + m, Actual: "not loaded", Expected: "loaded"})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Config.Sysctl)) {
		want := normal(s.Config.Sysctl[key])
		seen, err := s.Host.Sysctl(key)
		switch {
		case host.NotExist(err):
			f.Add(engine.Difference{
				Object: key, Actual: "the kernel has no such key", Expected: want,
				Fix: "load the module that brings the key, or take it out of sysctl in the configuration",
			})
		case err != nil:
			return f, err
		case seen != want:
			f.Add(engine.Difference{Object: key, Actual: seen, Expected: want})
		}
	}
	return f, nil
}

// normal is a value as the kernel shows it: fields with one blank between.
func normal(value string) string { return strings.Join(strings.Fields(value), " ") }

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
			return engine.WithHint(err, "install the kernel's modules (linux-modules-extra or the like) for the running kernel")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Config.Sysctl)) {
		want := normal(s.Config.Sysctl[key])
		if seen, err := s.Host.Sysctl(key); err == nil && seen == want {
			continue
		}
		if err := s.Host.SetSysctl(key, want); err != nil {
			return err
		}
	}
	return nil
}

package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	kernel "github.com/projecteru2/firstboot/internal/sysctl"
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

// settings returns the keys to set, with their values. For a global network they
// include those that disable IPv6, unless the configuration sets them: Docker cannot
// start a container on it with IPv6 on ("fe80::… permission denied", measured on
// Docker 20.10). For a local network IPv6 stays as it is.
func (e *Env) settings(mode networkMode) map[string]string {
	if !mode.global() {
		return e.Config.Sysctl
	}
	all := map[string]string{disableAllIPv6: "1", disableDefaultIPv6: "1"}
	maps.Copy(all, e.Config.Sysctl)
	return all
}

// keys returns the keys of settings in the order in which they are set.
func keys(settings map[string]string) []string {
	keys := slices.Collect(maps.Keys(settings))
	kernel.Sort(keys)
	return keys
}

// The keys that disable IPv6.
const (
	disableAllIPv6     = "net.ipv6.conf.all.disable_ipv6"
	disableDefaultIPv6 = "net.ipv6.conf.default.disable_ipv6"
)

// files returns the files that repeat the settings at every boot.
func (s sysctl) files(ctx context.Context, mode networkMode) []host.File {
	var lines strings.Builder
	lines.WriteString(host.FileHeader)
	values := s.settings(mode)
	for _, key := range keys(values) {
		fmt.Fprintf(&lines, "%s = %s\n", key, values[key])
	}
	var list strings.Builder
	list.WriteString(host.FileHeader)
	for _, m := range s.bootModules(ctx) {
		list.WriteString(m + "\n")
	}
	return []host.File{
		{Path: modulesPath, Data: []byte(list.String()), Mode: 0o644},
		{Path: sysctlPath, Data: []byte(lines.String()), Mode: 0o644},
	}
}

func (s sysctl) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	mode, err := s.network(ctx)
	if err != nil {
		return f, err
	}
	if err := checkFiles(s.Host, s.files(ctx, mode), &f); err != nil {
		return f, err
	}
	if s.Host.IsOffline() {
		return f, host.ErrOffline // a directory has no kernel
	}
	s.checkModules(ctx, &f)
	values := s.settings(mode)
	for _, key := range keys(values) {
		s.checkKey(key, values[key], &f)
	}
	return f, nil
}

// checkKey compares a key with the configuration, by what the kernel means.
func (s sysctl) checkKey(key, value string, f *engine.CheckResult) {
	want := kernel.Normalize(value)
	k := s.readKey(key)
	switch {
	case k.missing && s.ignores("sysctl"):
		f.Warn("%s: the kernel has no such key", key)
	case k.missing:
		f.Add(engine.Difference{Object: key, Actual: "the kernel has no such key", Expected: want, Fix: s.missingKeyFix(key)})
	case k.writeOnly:
		f.Warn("%s: cannot be read; it is set at boot only", key)
	case errors.Is(k.err, fs.ErrPermission):
		f.Warn("%s: cannot be read by this user", key)
	case k.err != nil:
		f.Add(engine.Difference{Object: key, Actual: k.err.Error(), Expected: want})
	case k.is(want):
	case k.readOnly && s.ignores("sysctl"):
		f.Warn("%s: read-only, %s, expected %s", key, orNone(k.value), want)
	default:
		f.Add(engine.Difference{Object: key, Actual: orNone(k.value), Expected: want})
	}
}

// kernelKey is a key as the kernel has it.
type kernelKey struct {
	name      string
	value     string
	missing   bool
	noIPv6    bool // the kernel has no IPv6, which counts as IPv6 disabled
	writeOnly bool // the kernel accepts a value and prints none
	readOnly  bool
	err       error // why the value cannot be read
}

// is reports whether the key has a value.
func (k kernelKey) is(want string) bool { return kernel.Same(k.name, want, k.value) }

// readKey reads a key.
func (e *Env) readKey(key string) kernelKey {
	k := kernelKey{name: key}
	mode, err := e.Host.SysctlMode(key)
	switch {
	case host.NotExist(err) && disablesIPv6(key) && e.lacksIPv6():
		k.value, k.noIPv6 = "1", true
		return k
	case host.NotExist(err):
		k.missing = true
		return k
	case err != nil:
		k.err = err
		return k
	}
	k.writeOnly, k.readOnly = mode&0o444 == 0, mode&0o222 == 0
	if !k.writeOnly {
		k.value, k.err = e.Host.Sysctl(key)
	}
	return k
}

func disablesIPv6(key string) bool {
	return strings.HasPrefix(key, "net.ipv6.conf.") && strings.HasSuffix(key, ".disable_ipv6")
}

// lacksIPv6 reports whether the running kernel has no IPv6: it was built without
// it, or booted with ipv6.disable=1.
func (e *Env) lacksIPv6() bool {
	return e.Host.Exists("/proc/sys/net") && !e.Host.Exists("/proc/sys/net/ipv6/conf")
}

// missingKeyFix returns what a person can do about a key that does not exist.
func (e *Env) missingKeyFix(key string) string {
	if strings.HasPrefix(key, "net.ipv6.") && e.lacksIPv6() {
		return "this kernel has no IPv6: boot without ipv6.disable=1, or remove the key from sysctl in the configuration"
	}
	return "load the module that provides the key at every boot (/etc/modules-load.d), or remove the key from sysctl in the configuration"
}

func (s sysctl) Apply(ctx context.Context, _ engine.Progress) error {
	mode, err := s.network(ctx)
	if err != nil {
		return err
	}
	s.expectFiles(ctx)
	if err := s.writeFiles(ctx, s.files(ctx, mode)); err != nil {
		return err
	}
	if err := s.loadModules(ctx); err != nil {
		return err
	}
	values := s.settings(mode)
	for _, key := range keys(values) {
		if err := s.setKey(key, values[key]); err != nil {
			return err
		}
	}
	return nil
}

// setKey sets a key unless it has the value already. One that cannot be read is
// set at boot only: whether it was set would never be known.
func (s sysctl) setKey(key, value string) error {
	want := kernel.Normalize(value)
	k := s.readKey(key)
	switch {
	case k.writeOnly, k.noIPv6, (k.missing || k.readOnly) && s.ignores("sysctl"), k.err == nil && !k.missing && k.is(want):
		return nil
	case k.missing:
		return engine.WithHint(fmt.Errorf("cannot set %s: the kernel has no such key", key), "%s", s.missingKeyFix(key))
	}
	return s.Host.SetSysctl(key, want)
}

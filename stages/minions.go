package stages

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

const (
	minionsConfPath = "/etc/eru/minions.conf"
	pluginDir       = "/run/docker/plugins/"
)

// PluginSockets are the sockets on which the plugin serves Docker. They remain
// when the plugin dies: only a response proves that it runs.
func PluginSockets() []string {
	return []string{pluginDir + "calico.sock", pluginDir + "calico-ipam.sock"}
}

// minions installs the plugin's RPM, then its configuration, which an install
// overwrites. It orders the plugin before Docker and starts it. The stage is
// done when both sockets respond.
type minions struct{ *Env }

func (minions) Name() string    { return "minions" }
func (minions) After() []string { return []string{"config"} }

// conf returns the plugin's environment file.
func (s minions) conf() host.File {
	var b strings.Builder
	fmt.Fprintf(&b, "ETCD_ENDPOINTS=%s\n", strings.Join(s.Config.Etcd.Endpoints, ","))
	for _, key := range slices.Sorted(maps.Keys(s.Config.Minions.Environment)) {
		fmt.Fprintf(&b, "%s=%s\n", key, quoteEnvironment(s.Config.Minions.Environment[key].Reveal()))
	}
	conf := host.File{Path: minionsConfPath, Data: []byte(b.String()), Mode: 0o644}
	if len(s.Config.Minions.Environment) > 0 {
		conf.Mode = 0o600 // it may contain secrets
	}
	return conf
}

// quoteEnvironment quotes a value for systemd's EnvironmentFile=, which keeps
// line breaks inside quotes.
func quoteEnvironment(v string) string {
	if v != "" && !strings.ContainsAny(v, " \t\n\r\"'\\$#;`") {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(v) + `"`
}

func (s minions) files() []host.File {
	list := []host.File{s.conf()}
	for _, d := range units.DropIns() {
		list = append(list, host.File{Path: d.Path, Data: d.Data, Mode: 0o644})
	}
	return list
}

func (s minions) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	if err := s.checkPackage(ctx, &f); err != nil {
		return f, err
	}
	if err := checkFiles(s.Host, s.files(), &f); err != nil {
		return f, err
	}
	if !f.OK() {
		return f, nil
	}
	return f, s.checkUnit(ctx, &f)
}

// checkUnit adds a difference unless the plugin is enabled, was started after
// its configuration was written, and responds on both sockets.
func (s minions) checkUnit(ctx context.Context, f *engine.CheckResult) error {
	unit, err := s.Host.Systemd().Unit(ctx, units.Minions)
	if err != nil {
		return err
	}
	if unit.FileState != "enabled" {
		f.Add(engine.Difference{Object: units.Minions, Actual: orNone(unit.FileState), Expected: "enabled"})
	}
	if unit.NeedsReload {
		f.Add(engine.Difference{Object: units.Minions, Actual: "changed on disk", Expected: "loaded"})
	}
	if unit.Active != "active" {
		f.Add(engine.Difference{Object: units.Minions, Actual: s.unitState(ctx, units.Minions, unit), Expected: "active", Fix: "journalctl -u eru-minions"})
		return nil
	}
	outdated, err := s.outdated(unit)
	if err != nil {
		return err
	}
	if outdated != "" {
		f.Add(engine.Difference{Object: units.Minions, Actual: outdated, Expected: "restarted"})
	}
	for _, problem := range s.pluginErrors(ctx) {
		f.Add(engine.Difference{Object: "plugin", Actual: problem, Expected: "a response to Plugin.Activate", Fix: "journalctl -u eru-minions"})
	}
	return nil
}

// outdated describes why the running plugin must be restarted, or returns "".
func (s minions) outdated(unit host.UnitState) (string, error) {
	older, err := s.startedBefore(unit.Since, minionsConfPath)
	if err != nil {
		return "", err
	}
	if older {
		return "started before " + minionsConfPath + " was written", nil
	}
	installed := s.Notes.Notes().Installed[minionsName].Time
	if unit.Since.Before(installed) && !installed.After(time.Now()) {
		return "started before its package was installed", nil
	}
	return "", nil
}

// pluginErrors describes what is wrong with each of the plugin's sockets.
func (e *Env) pluginErrors(ctx context.Context) []string {
	var problems []string
	for i, socket := range PluginSockets() {
		want := []string{"NetworkDriver", "IpamDriver"}[i]
		activateCtx, cancel := context.WithTimeout(ctx, queryTimeout)
		implements, err := e.Host.ActivatePlugin(activateCtx, socket)
		cancel()
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s: %v", socket, err))
		case !slices.Contains(implements, want):
			problems = append(problems, fmt.Sprintf("%s: implements %s, not %s", socket, strings.Join(implements, " "), want))
		}
	}
	return problems
}

func (s minions) Apply(ctx context.Context, report engine.Progress) error {
	var f engine.CheckResult
	if err := s.checkPackage(ctx, &f); err != nil {
		return err
	}
	if !f.OK() {
		if err := s.install(ctx, report); err != nil {
			return err
		}
	}
	s.removePartialFiles(ctx)
	if err := writeFiles(s.Host, s.files()); err != nil {
		return err
	}
	systemd := s.Host.Systemd()
	if err := systemd.DaemonReload(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	if err := systemd.Enable(ctx, units.Minions); err != nil {
		return &engine.Retry{Err: err}
	}
	if err := s.startUnit(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	return s.waitForSockets(ctx, report)
}

func (s minions) startUnit(ctx context.Context) error {
	systemd := s.Host.Systemd()
	unit, err := systemd.Unit(ctx, units.Minions)
	if err != nil {
		return err
	}
	outdated, err := s.outdated(unit)
	if err != nil {
		return err
	}
	if unit.Active == "active" && outdated == "" {
		return nil
	}
	return systemd.Restart(ctx, units.Minions)
}

// socketTimeout bounds one wait for the sockets. If etcd is unreachable, the
// plugin exits after about ten seconds and systemd starts it again.
const socketTimeout = 30 * time.Second

// waitForSockets waits until both sockets respond, or returns a *engine.Wait,
// because etcd may become reachable later.
func (s minions) waitForSockets(ctx context.Context, report engine.Progress) error {
	report("waiting for the plugin's sockets", 0, 0)
	err := s.poll(ctx, socketTimeout, func(ctx context.Context) error {
		if problems := s.pluginErrors(ctx); len(problems) > 0 {
			return fmt.Errorf("%s", strings.Join(problems, "; "))
		}
		return nil
	})
	if err != nil {
		return &engine.Wait{For: "eru-minions to open its sockets (journalctl -u eru-minions)", Err: err}
	}
	return nil
}

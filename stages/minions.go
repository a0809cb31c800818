package stages

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// plugin, shown as "minions", installs the plugin's RPM, then its configuration,
// which an install overwrites. Drop-ins order the plugin before Docker. The stage starts
// it, with the tunnel to an etcd with TLS, and is done when both sockets respond.
type plugin struct{ *Env }

func (plugin) Name() string    { return "minions" }
func (plugin) After() []string { return []string{"config"} }

func (s plugin) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	if err := s.checkPackage(ctx, &f); err != nil {
		return f, err
	}
	mode, err := s.network(ctx)
	if err != nil {
		return f, err
	}
	if err := checkFiles(s.Host, minions.Files(s.Config, mode.local()), &f); err != nil {
		return f, err
	}
	if !f.OK() {
		return f, nil
	}
	check := s.checkNoService
	if s.Config.Etcd.TLS() {
		check = s.checkService
	}
	if err := check(ctx, units.EtcdTunnel, &f); err != nil {
		return f, err
	}
	outdated, err := s.tunnelOutdated(ctx)
	if err != nil {
		return f, err
	}
	if outdated {
		f.Add(engine.Difference{Object: units.EtcdTunnel, Actual: "started before " + state.EffectivePath + " was written", Expected: "restarted"})
	}
	return f, s.checkUnit(ctx, &f)
}

// checkUnit adds a difference unless the plugin is enabled, was started after
// its configuration was written, and responds on both sockets.
func (s plugin) checkUnit(ctx context.Context, f *engine.CheckResult) error {
	unit, err := s.unit(ctx, units.Minions)
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
	for _, problem := range minions.SocketErrors(ctx, s.Host) {
		f.Add(engine.Difference{Object: "plugin", Actual: problem, Expected: "a response to Plugin.Activate", Fix: "journalctl -u eru-minions"})
	}
	return nil
}

// outdated describes why the running plugin must be restarted, or returns "".
func (s plugin) outdated(unit host.UnitState) (string, error) {
	if s.Notes.Notes().IsOutdated(units.Minions, unit.Since) {
		return "started before its package or files were changed", nil
	}
	older, err := s.startedBefore(unit.Since, minions.ConfPath)
	if err != nil {
		return "", err
	}
	if older {
		return "started before " + minions.ConfPath + " was written", nil
	}
	installed := s.Notes.Notes().Installed[minionsName].Time
	if unit.Since.Before(installed) && !installed.After(time.Now()) {
		return "started before its package was installed", nil
	}
	older, err = s.startedBefore(unit.Since, units.MinionsDropIn)
	if err != nil || !older {
		return "", err
	}
	return "started before " + units.MinionsDropIn + " was written", nil
}

func (s plugin) Apply(ctx context.Context, report engine.Progress) (err error) {
	defer s.settle(ctx, &err)
	s.expectFiles(ctx)
	mode, err := s.network(ctx)
	if err != nil {
		return err
	}
	// It comes before the package, whose installation makes systemd read unit files.
	// Docker's comes later: it makes Docker wait for the plugin at every start.
	if err := s.writeFiles(ctx, []host.File{minions.DropIn(mode.local())}, units.Minions); err != nil {
		return err
	}
	var f engine.CheckResult
	if err := s.checkPackage(ctx, &f); err != nil {
		return retryIf(err)
	}
	installed := false
	if !f.OK() {
		if installed, err = s.install(ctx, report); err != nil {
			return err
		}
	}
	s.removePartialFiles(ctx, installed)
	// An installation overwrites the configuration.
	if err := s.writeFiles(ctx, minions.Files(s.Config, mode.local()), units.Minions); err != nil {
		return err
	}
	if err := s.enable(ctx, units.Minions); err != nil {
		return err
	}
	if err := s.applyTunnel(ctx); err != nil {
		return err
	}
	if err := s.startUnit(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	return s.waitForSockets(ctx, report)
}

// applyTunnel runs the tunnel to an etcd with TLS, with this run's configuration. It
// stops a tunnel that this host does not need.
func (s plugin) applyTunnel(ctx context.Context) error {
	if !s.Config.Etcd.TLS() {
		return s.stopServices(ctx, units.EtcdTunnel)
	}
	if err := s.startServices(ctx, units.EtcdTunnel); err != nil {
		return err
	}
	outdated, err := s.tunnelOutdated(ctx)
	if err == nil && outdated {
		err = s.Host.Systemd().Restart(ctx, units.EtcdTunnel)
	}
	return retryIf(err)
}

// tunnelOutdated reports whether the tunnel runs with an earlier configuration. It
// reads the endpoints and the paths of the certificates when it starts.
func (s plugin) tunnelOutdated(ctx context.Context) (bool, error) {
	if !s.Config.Etcd.TLS() || !s.Host.Exists(state.EffectivePath) {
		return false, nil
	}
	unit, err := s.Host.Systemd().Unit(ctx, units.EtcdTunnel)
	if err != nil || unit.Active != "active" {
		return false, err
	}
	if s.Notes.Notes().IsOutdated(units.EtcdTunnel, unit.Since) {
		return true, nil
	}
	return s.startedBefore(unit.Since, state.EffectivePath)
}

// startUnit starts the plugin, or restarts it if something was changed after its
// start.
func (s plugin) startUnit(ctx context.Context) error {
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
func (s plugin) waitForSockets(ctx context.Context, report engine.Progress) error {
	report("waiting for the plugin's sockets", 0, 0)
	err := s.poll(ctx, socketTimeout, func(ctx context.Context) error {
		if problems := minions.SocketErrors(ctx, s.Host); len(problems) > 0 {
			return fmt.Errorf("%s", strings.Join(problems, "; "))
		}
		return nil
	})
	if err != nil {
		return &engine.Wait{For: "eru-minions to open its sockets (journalctl -u eru-minions)", Err: err}
	}
	return nil
}

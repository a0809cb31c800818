package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// docker makes Docker run with the node image in its store and, for a global
// network, with the configured cluster-store in effect.
type docker struct{ *Env }

func (docker) Name() string    { return "docker" }
func (docker) After() []string { return []string{"config"} }

func (s docker) Check(ctx context.Context) (engine.CheckResult, error) {
	f, err := s.dockerActive(ctx)
	if err != nil || !f.OK() {
		return f, err
	}
	info, err := s.docker().Info(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return f, ctx.Err()
	}
	if errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	if err != nil {
		f.Add(engine.Difference{Object: "Docker", Actual: err.Error(), Expected: "a response"})
		return f, nil //nolint:nilerr // the error is the actual value of the difference
	}
	if err := s.checkStore(ctx, info, &f); err != nil {
		return f, err
	}
	return f, s.checkImage(ctx, &f)
}

// checkStore adds a difference unless the cluster-store of a global network is in
// effect. Docker's /info is not enough: after a reload it shows the new store
// even if Docker still uses the old one. So Docker must have started after
// daemon.json was written, or firstboot must have reloaded it to set its first
// store.
func (s docker) checkStore(ctx context.Context, info dockerd.Info, f *engine.CheckResult) error {
	mode, err := s.network(ctx)
	if err != nil {
		return err
	}
	want := dockerd.ClusterStore(s.Config)
	switch {
	case mode.local(), want == "":
		return nil // the stage pool restarts a Docker that still has a store
	}
	if info.ClusterStore != want {
		f.Add(engine.Difference{Object: "Docker's cluster-store", Actual: orNone(info.ClusterStore), Expected: want})
		return nil
	}
	unit, err := s.Host.Systemd().Unit(ctx, units.Docker)
	if err != nil {
		return err
	}
	read := unit.Since
	if reloaded := s.Notes.Notes().StoreReloaded; reloaded.After(read) {
		read = reloaded
	}
	older, err := s.startedBefore(read, dockerd.ConfigPath)
	if err != nil {
		return err
	}
	if older {
		f.Add(engine.Difference{
			Object: "Docker's cluster-store", Actual: "shown, but not in effect: Docker started before " + dockerd.ConfigPath + " was written", Expected: want,
			Fix: "systemctl restart docker",
		})
	}
	return nil
}

func (s docker) Apply(ctx context.Context, report engine.Progress) error {
	if err := s.startDocker(ctx); err != nil {
		return err
	}
	if err := s.applyStore(ctx, report); err != nil {
		return err
	}
	var f engine.CheckResult
	if err := s.checkImage(ctx, &f); err != nil {
		return &engine.Retry{Err: err}
	}
	if f.OK() {
		return nil
	}
	return s.provideImage(ctx, report)
}

func (s docker) applyStore(ctx context.Context, report engine.Progress) error {
	info, err := s.docker().Info(ctx)
	if err != nil {
		return &engine.Wait{For: "Docker to respond", Err: err}
	}
	var f engine.CheckResult
	if err := s.checkStore(ctx, info, &f); err != nil || f.OK() {
		return err
	}
	if info.ClusterStore == "" {
		return s.reload(ctx, report)
	}
	return s.restart(ctx, report)
}

// reloadTimeout bounds the time until a reload takes effect. Measured: less
// than a second.
const reloadTimeout = 15 * time.Second

// reloadPause is the time until the first look at the effect of a reload. Docker takes
// about as long, and its answer costs it a tenth of a second of CPU time on a slow
// machine, on which a look at once would delay the reload.
const reloadPause = 500 * time.Millisecond

// reload sets Docker's first cluster-store, which needs no restart.
func (s docker) reload(ctx context.Context, report engine.Progress) error {
	if err := s.advertise(ctx); err != nil {
		return err
	}
	report("reloading Docker for its cluster-store", 0, 0)
	// The note comes before the reload: after a power cut in between, Docker
	// starts with the new file anyway.
	err := s.Notes.SetNotes(func(n *state.Notes) { n.StoreReloaded = time.Now() })
	if err != nil {
		return err
	}
	if err := s.Host.Systemd().Reload(ctx, units.Docker); err != nil {
		return &engine.Retry{Err: err}
	}
	if err := s.sleep(ctx, reloadPause); err != nil {
		return err
	}
	want := dockerd.ClusterStore(s.Config)
	err = s.poll(ctx, reloadTimeout, func(ctx context.Context) error {
		info, err := s.docker().Info(ctx)
		if err == nil && info.ClusterStore != want {
			err = fmt.Errorf("the cluster-store of Docker is %s, expected %s", orNone(info.ClusterStore), want)
		}
		return err
	})
	if err != nil {
		return &engine.Retry{Err: fmt.Errorf("cannot set the cluster-store by a reload: %w", err)}
	}
	return nil
}

// advertise adds the address to a daemon.json that lacks it, for the reload of
// a Docker that started before the file was written.
func (s docker) advertise(ctx context.Context) error {
	store := dockerd.ClusterStore(s.Config)
	lacks, err := dockerd.StoreLacksAddress(s.Host, store)
	if err != nil || !lacks {
		return err
	}
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	file, err := dockerd.StoreFile(s.Host, store, address)
	if err != nil {
		return err
	}
	return s.Host.WriteFile(file.Path, file.Data, file.Mode)
}

// restart changes the cluster-store of a Docker that already uses another one:
// dockerd never changes it while it runs.
func (s docker) restart(ctx context.Context, report engine.Progress) error {
	return s.restartDocker(ctx, report, "for its cluster-store")
}

// restartDocker restarts Docker and returns a *engine.Wait, unless that would stop
// containers that firstboot did not create.
func (e *Env) restartDocker(ctx context.Context, report engine.Progress, why string) error {
	if err := e.mayRestart(ctx, why); err != nil {
		return err
	}
	report("restarting Docker "+why, 0, 0)
	if len(minions.SocketErrors(ctx, e.Host)) > 0 && e.Host.Exists(units.DockerDropIn) {
		return &engine.Wait{For: "the plugin's sockets, which containers need after Docker's restart"}
	}
	if e.restarts.Add(1) > maxRestarts {
		return fault.New(fault.Permanent, fault.Config, engine.WithHint(
			fmt.Errorf("this run restarted Docker %d times, and it must still be restarted %s", maxRestarts, why),
			"read systemctl cat docker and "+dockerd.ConfigPath+": an option there undoes the change"))
	}
	if err := e.Host.Systemd().Restart(ctx, units.Docker); err != nil {
		return &engine.Retry{Err: err}
	}
	return &engine.Wait{For: "Docker to restart"}
}

// maxRestarts bounds the restarts of Docker in one run: each reason needs one.
const maxRestarts = 3

// mayRestart returns an error if a restart would stop containers that firstboot
// did not create, unless docker.restart allows it.
func (e *Env) mayRestart(ctx context.Context, why string) error {
	foreign, err := e.foreignContainers(ctx)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if e.Config.Docker.Restart == config.RestartAllow || len(foreign) == 0 {
		return nil
	}
	return engine.WithHint(
		fmt.Errorf("cannot restart Docker %s: the restart would stop %s", why, strings.Join(foreign, ", ")),
		"stop these containers, or set docker.restart: allow")
}

package stages

import (
	"context"
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// adapterStage runs the adapter between Docker and the plugin on a host with a
// local network. On any other host it does not run.
type adapterStage struct{ *Env }

func (adapterStage) Name() string    { return "adapter" }
func (adapterStage) After() []string { return []string{"minions"} }

func (s adapterStage) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	mode, err := s.network(ctx)
	if err != nil {
		return f, err
	}
	check := s.checkService
	if !mode.local() {
		check = s.checkNoService
	}
	for _, name := range []string{units.AdapterSocket, units.AdapterService} {
		if err := check(ctx, name, &f); err != nil {
			return f, err
		}
	}
	if !mode.local() {
		return f, s.checkScope(ctx, &f)
	}
	if !f.OK() {
		return f, nil
	}
	if err := s.answers(ctx); err != nil {
		f.Add(engine.Difference{Object: "adapter", Actual: err.Error(), Expected: "the scope local", Fix: "journalctl -u firstboot-adapter"})
	}
	return f, nil
}

// answers returns an error unless Docker's calls reach the adapter.
func (s adapterStage) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return adapter.Ready(ctx, s.Host)
}

func (s adapterStage) Apply(ctx context.Context, report engine.Progress) error {
	mode, err := s.network(ctx)
	if err != nil {
		return err
	}
	if !mode.local() {
		return s.remove(ctx, report)
	}
	// The socket comes first: systemd replaces the plugin's own.
	if err := s.startServices(ctx, units.AdapterSocket, units.AdapterService); err != nil {
		return err
	}
	if s.answers(ctx) != nil {
		// The plugin may have replaced the socket since systemd made it.
		if err := s.Host.Systemd().Restart(ctx, units.AdapterSocket); err != nil {
			return &engine.Retry{Err: err}
		}
		if err := s.startServices(ctx, units.AdapterSocket, units.AdapterService); err != nil {
			return err
		}
	}
	report("waiting for the adapter", 0, 0)
	if err := s.poll(ctx, socketTimeout, s.answers); err != nil {
		return &engine.Wait{For: "the adapter to answer (journalctl -u firstboot-adapter)", Err: err}
	}
	return nil
}

// remove stops the adapter on a host whose network becomes global. Docker keeps the
// local scope of the plugin until it restarts, and would create a local network.
func (s adapterStage) remove(ctx context.Context, report engine.Progress) error {
	docker, local, err := s.localScope(ctx)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if local {
		if err := s.mayRestart(ctx, forGlobal); err != nil {
			return err
		}
		// The note comes before the stop: later nothing else shows a run that was killed
		// in between that Docker must be restarted.
		if err := s.noteOutdated(ctx, units.Docker); err != nil {
			return err
		}
	}
	if err := s.stopServices(ctx, units.AdapterService, units.AdapterSocket); err != nil {
		return err
	}
	switch {
	case local:
		report("restarting Docker "+forGlobal, 0, 0)
		if err := s.Host.Systemd().Restart(ctx, units.Docker); err != nil {
			return &engine.Retry{Err: err}
		}
		return &engine.Wait{For: "Docker to restart"}
	case !s.hasNotedDocker():
		return nil
	case docker.Active != "active": // the restart failed; Docker starts without the adapter
		return s.startDocker(ctx)
	}
	return s.Notes.SetNotes(func(n *state.Notes) { n.SetOutdated(units.Docker, time.Time{}) })
}

// checkScope adds a difference if Docker on a host with a global network must be
// restarted, or no run has seen the end of that restart.
func (s adapterStage) checkScope(ctx context.Context, f *engine.CheckResult) error {
	_, local, err := s.localScope(ctx)
	switch {
	case local:
		f.Add(engine.Difference{Object: "Docker", Actual: "has the plugin's scope as local", Expected: "restarted"})
	case s.hasNotedDocker():
		f.Add(engine.Difference{Object: "Docker", Actual: "its restart was not confirmed", Expected: "restarted"})
	}
	return err
}

// hasNotedDocker reports whether a run has begun to restart Docker for a global
// network.
func (s adapterStage) hasNotedDocker() bool {
	_, noted := s.Notes.Notes().Outdated[units.Docker]
	return noted
}

// localScope reports whether Docker knows the plugin's scope as local: the adapter
// answers it, or has answered this start of Docker.
func (e *Env) localScope(ctx context.Context) (docker host.UnitState, local bool, err error) {
	if docker, err = e.Host.Systemd().Unit(ctx, units.Docker); err != nil || docker.Active != "active" {
		return docker, false, err
	}
	if e.Notes.Notes().IsOutdated(units.Docker, docker.Since) {
		return docker, true, nil
	}
	socket, err := e.Host.Systemd().Unit(ctx, units.AdapterSocket)
	return docker, socket.Active == "active", err
}

const forGlobal = "for its global network, because it still has the plugin's scope as local"

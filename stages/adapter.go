package stages

import (
	"context"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/engine"
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
	if s.staleScope.Load() {
		f.Add(engine.Difference{Object: "Docker", Actual: "has the plugin's scope as local", Expected: "restarted"})
	}
	if !mode.local() || !f.OK() {
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
	socket, err := s.Host.Systemd().Unit(ctx, units.AdapterSocket)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	docker, err := s.dockerActive(ctx)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	// An earlier attempt of this run may have stopped the socket, and then failed.
	restart := (socket.Active == "active" || s.staleScope.Load()) && docker.OK()
	if restart {
		if err := s.mayRestart(ctx, forGlobal); err != nil {
			return err
		}
		s.staleScope.Store(true)
	}
	if err := s.stopServices(ctx, units.AdapterService, units.AdapterSocket); err != nil {
		return err
	}
	if s.staleScope.Load() && !docker.OK() { // it starts without the adapter
		s.staleScope.Store(false)
		return s.startDocker(ctx)
	}
	if !restart {
		return nil
	}
	report("restarting Docker "+forGlobal, 0, 0)
	if err := s.Host.Systemd().Restart(ctx, units.Docker); err != nil {
		return &engine.Retry{Err: err}
	}
	s.staleScope.Store(false)
	return &engine.Wait{For: "Docker to restart"}
}

const forGlobal = "for its global network, because it still has the plugin's scope as local"

package stages

import (
	"context"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/minions"
)

// localNetwork removes this host's own Docker network. A global network stays: it
// belongs to all hosts.
type localNetwork struct{ *Env }

func (localNetwork) Name() string    { return "network" }
func (localNetwork) After() []string { return []string{"autostart"} }

// find returns the network, or nil if it does not exist or Docker does not run.
func (s localNetwork) find(ctx context.Context) (*dockerd.Network, error) {
	active, err := s.dockerActive(ctx)
	if err != nil || !active.OK() {
		return nil, err
	}
	n, err := s.docker().Network(ctx, s.Config.Pool.NetworkName())
	if err != nil || n == nil || n.Scope != dockerd.ScopeLocal || n.Driver != minions.NetworkDriver {
		return nil, err
	}
	return n, nil
}

func (s localNetwork) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	n, err := s.find(ctx)
	if n != nil {
		f.Add(engine.Difference{Object: "Docker network " + n.Name, Actual: "present", Expected: "removed"})
	}
	return f, err
}

// Apply disconnects containers, which leave --force allows, and removes the
// network.
func (s localNetwork) Apply(ctx context.Context, report engine.Progress) error {
	n, err := s.find(ctx)
	if err != nil || n == nil {
		return retryIf(err)
	}
	names, err := s.containersOnNetwork(ctx)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	for _, name := range names {
		if err := s.docker().DisconnectContainer(ctx, n.ID, name); err != nil {
			return &engine.Retry{Err: err}
		}
	}
	report("removing Docker network "+n.Name, 0, 0)
	return retryIf(s.docker().RemoveNetwork(ctx, n.ID))
}

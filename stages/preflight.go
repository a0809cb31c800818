package stages

import (
	"context"
	"errors"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// preflight changes nothing. It looks at everything that would make a later
// stage fail and tells all of it at once; what time can cure it waits for.
type preflight struct{ *Env }

func (preflight) Name() string    { return "preflight" }
func (preflight) After() []string { return nil }

// concern is something that preflight does not like.
type concern struct {
	engine.Difference
	warning bool // it does not stop the run
}

// probes are the looks, in the order in which people are told. The names of
// their findings are config.PreflightNames.
func (s preflight) probes() []func(context.Context, dockerView) ([]concern, error) {
	return []func(context.Context, dockerView) ([]concern, error){
		s.architecture,
		s.hostName,
		s.localhost,
		s.bgpAddress,
		s.clock,
		s.diskSpace,
		s.defaultRoute,
		s.kernelModules,
		s.ipv6InUse,
		s.appArmor,
		s.forwardPolicy,
		s.networkManager,
		s.bakedNodename,
		s.bgpPort,
		s.cidrOverlap,
		s.dockerVersion,
		s.dockerStore,
		s.foreignStop,
		s.artifacts,
		s.etcdAndCalico,
	}
}

func (s preflight) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	view, waits := s.viewDocker(ctx)
	if waits != nil && !view.silent {
		return f, waits
	}
	for _, look := range s.probes() {
		found, err := look(ctx, view)
		if waits == nil && err != nil {
			waits = err
		}
		for _, c := range found {
			s.take(&f, c)
		}
	}
	if !f.OK() {
		// What is wrong now is told now, not after etcd or Docker came up.
		return f, nil
	}
	return f, waits
}

// take adds a concern as a warning or as an error, which the configuration can
// demote by its name.
func (s preflight) take(f *engine.CheckResult, c concern) {
	switch {
	case !c.warning && !s.ignores(c.Name):
		f.Add(c.Difference)
	case c.Fix == "":
		f.Warn("%s: %s", c.Name, c.Difference)
	default:
		f.Warn("%s: %s; %s", c.Name, c.Difference, c.Fix)
	}
}

// Apply refuses: what preflight found is not firstboot's to change.
func (s preflight) Apply(ctx context.Context, _ engine.Progress) error {
	f, err := s.Check(ctx)
	if err != nil {
		return err
	}
	if f.OK() {
		return nil
	}
	return &engine.Refusal{Findings: f.Differences}
}

// concernOf is one error of preflight.
func concernOf(name, what, seen, want, fix string) []concern {
	return []concern{{Difference: engine.Difference{Name: name, Object: what, Actual: seen, Expected: want, Fix: fix, Stops: true}}}
}

// warningOf is one warning of preflight.
func warningOf(name, what, seen, want, fix string) []concern {
	list := concernOf(name, what, seen, want, fix)
	list[0].warning = true
	return list
}

// dockerView is what Docker tells before anything is changed.
type dockerView struct {
	load    string // systemd's word for the unit: loaded, not-found, masked
	active  bool
	silent  bool                 // it is active and does not answer: nothing of it is held against the host
	info    host.DockerInfo      // where it is active
	network []host.DockerNetwork // likewise
}

// viewDocker asks systemd first: a question to Docker's socket would start it.
func (s preflight) viewDocker(ctx context.Context) (dockerView, error) {
	unit, err := s.Host.Systemd().Unit(ctx, units.Docker)
	if err != nil {
		return dockerView{}, err
	}
	view := dockerView{load: unit.Load, active: unit.Active == "active"}
	if !view.active {
		return view, nil
	}
	if view.info, err = s.Host.Docker().Info(ctx); err == nil {
		view.network, err = s.Host.Docker().Networks(ctx)
	}
	if err != nil {
		view.silent = true
		return view, &engine.Wait{For: "Docker to answer", Err: err}
	}
	return view, nil
}

// isWait tells whether time cures err.
func isWait(err error) bool {
	var wait *engine.Wait
	return errors.As(err, &wait)
}

package stages

import (
	"context"
	"errors"

	"github.com/projecteru2/firstboot/internal/engine"
)

// preflight checks everything that would make a later stage fail and changes
// nothing. It reports all findings at once. It waits for transient problems.
type preflight struct{ *Env }

func (preflight) Name() string    { return "preflight" }
func (preflight) After() []string { return nil }

// finding is a named result of preflight.
type finding struct {
	engine.Difference
	warning bool // does not stop the run
}

// preflightCheck examines one aspect of the machine. An error means that it
// could not be examined.
type preflightCheck func(context.Context, dockerState) ([]finding, error)

// checks returns the checks in the order of the output. The names of their
// findings are config.PreflightNames.
func (s preflight) checks() []preflightCheck {
	return []preflightCheck{
		s.architecture,
		s.hostName,
		s.localhost,
		s.bgpAddress,
		s.clock,
		s.diskSpace,
		s.defaultRoute,
		s.kernelModules,
		s.sysctlKeys,
		s.ipv6InUse,
		s.appArmor,
		s.forwardPolicy,
		s.networkManager,
		s.bakedNodename,
		s.bgpPort,
		s.cidrOverlap,
		s.dockerVersion,
		s.dockerRuntime,
		s.dockerStore,
		s.userNamespaces,
		s.dockerRestart,
		s.containersToRecreate,
		s.artifacts,
		s.etcdAndCalico,
	}
}

func (s preflight) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	d, firstErr := s.examineDocker(ctx)
	if firstErr != nil && !isWait(firstErr) {
		return f, firstErr
	}
	for _, check := range s.checks() {
		findings, err := check(ctx, d)
		if firstErr == nil {
			firstErr = err
		}
		for _, found := range findings {
			s.add(&f, found)
		}
	}
	if !f.OK() {
		// Findings are reported now, not after etcd or Docker has come up.
		return f, nil
	}
	if firstErr == nil {
		// A run records the decision once everything else is right. Commands that
		// only check cannot record it, and decide again.
		_ = s.recordMode(d.mode)
	}
	return f, firstErr
}

// add adds a finding to f: as a warning if it is one or if preflight.ignore
// contains its name, otherwise as a difference.
func (s preflight) add(f *engine.CheckResult, found finding) {
	switch {
	case !found.warning && !s.ignores(found.Name):
		f.Add(found.Difference)
	case found.Fix == "":
		f.Warn("%s: %s", found.Name, found.Difference)
	default:
		f.Warn("%s: %s; %s", found.Name, found.Difference, found.Fix)
	}
}

// Apply returns an *engine.Refusal if there are findings, because firstboot
// changes nothing that preflight checks.
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

// newFinding returns a list of one finding, which stops the run.
func newFinding(name, object, actual, expected, fix string) []finding {
	return []finding{{Difference: engine.Difference{Name: name, Object: object, Actual: actual, Expected: expected, Fix: fix, Stops: true}}}
}

// newWarning returns a list of one finding, which does not stop the run.
func newWarning(name, object, actual, expected, fix string) []finding {
	list := newFinding(name, object, actual, expected, fix)
	list[0].warning = true
	return list
}

// examineDocker returns the state of Docker with its networks, and decides on the
// mode of the network if that is possible now.
func (s preflight) examineDocker(ctx context.Context) (dockerState, error) {
	d, err := s.queryDocker(ctx)
	if err != nil && !d.unresponsive {
		return d, err
	}
	if d.active && !d.unresponsive {
		var listErr error
		if d.networks, listErr = s.docker().Networks(ctx); listErr != nil {
			d.unresponsive, err = true, &engine.Wait{For: "Docker to respond", Err: listErr}
		}
	}
	mode, modeErr := s.decideMode(ctx, d)
	if err == nil {
		err = modeErr
	}
	d.mode = mode
	if err == nil && mode.global() {
		_, d.localScope, err = s.localScope(ctx)
	}
	return d, err
}

// isWait reports whether err is an *engine.Wait.
func isWait(err error) bool {
	var wait *engine.Wait
	return errors.As(err, &wait)
}

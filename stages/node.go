package stages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// nodeContainer is the name that calicoctl gives the node's container.
const nodeContainer = "calico-node"

// node makes calico-node run as a systemd unit, with the pinned image, the
// right name and address, and ready.
type node struct{ *Env }

func (node) Name() string    { return "node" }
func (node) After() []string { return []string{"docker", "calicoctl", "sysctl"} }

// NodeArguments are those of `docker run` for the node's container: what
// calicoctl v3.23.0 prints for `node run --init-system --no-default-ippools
// --dryrun`, Felix's health port switched on (without it the readiness command
// fails on a healthy node), and the configuration's own environment.
func NodeArguments(c *config.Config, name string, address netip.Addr) []string {
	env := map[string]string{
		"NODENAME":                  name,
		"IP":                        address.String(),
		"AS":                        fmt.Sprint(c.Node.ASNumber),
		"CALICO_NETWORKING_BACKEND": "bird",
		"NO_DEFAULT_POOLS":          "true",
		"ETCD_ENDPOINTS":            join(c.Etcd.Endpoints),
		"ETCD_DISCOVERY_SRV":        "",
		"FELIX_HEALTHENABLED":       "true",
	}
	for key, value := range c.Node.Environment {
		env[key] = value.Reveal()
	}
	args := []string{"--net=host", "--privileged", "--name=" + nodeContainer, "--rm"}
	for _, key := range slices.Sorted(maps.Keys(env)) {
		args = append(args, "-e", key+"="+env[key])
	}
	for _, volume := range []string{
		"/var/log/calico:/var/log/calico", "/var/run/calico:/var/run/calico", "/var/lib/calico:/var/lib/calico",
		"/lib/modules:/lib/modules", "/run:/run",
	} {
		args = append(args, "-v", volume)
	}
	return append(args, c.Node.Image)
}

func (s node) unitFile(ctx context.Context) (file, error) {
	address, err := s.address(ctx)
	if err != nil {
		return file{}, err
	}
	program, ok := s.Host.LookPath("docker")
	if !ok {
		program = "/usr/bin/docker"
	}
	unit, err := units.NodeUnit(program, nodeContainer, state.ThisMachine(s.Host), NodeArguments(s.Config, s.nodeName(), address))
	if err != nil {
		return file{}, err
	}
	mode := file{unit.Path, unit.Data, 0o644}
	if len(s.Config.Node.Environment) > 0 {
		mode.mode = 0o600 // the environment may hold secrets
	}
	return mode, nil
}

func (s node) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	want, err := s.unitFile(ctx)
	if err != nil {
		return f, err
	}
	if want.check(s.Host, &f); !f.OK() {
		return f, nil
	}
	unit, err := s.Host.Systemd().Unit(ctx, units.CalicoNode)
	if err != nil {
		return f, err
	}
	if unit.FileState != "enabled" {
		f.Add(engine.Difference{Object: units.CalicoNode, Actual: orNone(unit.FileState), Expected: "enabled"})
	}
	if unit.NeedsReload {
		f.Add(engine.Difference{Object: units.CalicoNode, Actual: "changed on disk", Expected: "loaded"})
	}
	if unit.Active != "active" {
		f.Add(engine.Difference{
			Object: units.CalicoNode, Actual: unit.Active, Expected: "active",
			Fix: "systemctl start calico-node; journalctl -u calico-node",
		})
		return f, nil
	}
	older, err := s.startedBefore(unit.Since, units.CalicoNodePath)
	if err != nil {
		return f, err
	}
	if older {
		f.Add(engine.Difference{Object: units.CalicoNode, Actual: "started before " + units.CalicoNodePath + " was written", Expected: "restarted"})
		return f, nil
	}
	return f, s.checkContainer(ctx, &f)
}

// checkContainer looks into the running container: whether it was started
// from the present unit file, and its health.
func (s node) checkContainer(ctx context.Context, f *engine.CheckResult) error {
	container, running, err := s.container(ctx)
	if err != nil {
		return err
	}
	if !running {
		f.Add(engine.Difference{Object: "container " + nodeContainer, Actual: "not running", Expected: "running", Fix: "journalctl -u calico-node"})
		return nil
	}
	if err := s.checkOrigin(ctx, container, f); err != nil || !f.OK() {
		return err
	}
	err = s.ready(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if err != nil {
		f.Add(engine.Difference{Object: "calico-node", Actual: err.Error(), Expected: "ready", Fix: "journalctl -u calico-node"})
		return nil //nolint:nilerr // that is what was seen
	}
	s.warnOfPeers(ctx, f)
	return nil
}

// container is the node's, where it runs.
func (s node) container(ctx context.Context) (c host.ContainerDetails, running bool, err error) {
	c, err = s.Host.Docker().Container(ctx, nodeContainer)
	if host.DockerNotFound(err) {
		return c, false, nil
	}
	return c, err == nil && c.State.Running, err
}

// checkOrigin compares the running container's image and environment.
func (s node) checkOrigin(ctx context.Context, container host.ContainerDetails, f *engine.CheckResult) error {
	image, err := s.Host.Docker().Image(ctx, s.Config.Node.Image)
	if err != nil && !host.DockerNotFound(err) {
		return err
	}
	if container.Image != image.ID {
		f.Add(engine.Difference{Object: "container " + nodeContainer, Actual: "image " + container.Config.Image, Expected: s.Config.Node.Image})
	}
	for _, want := range s.environment(ctx) {
		if !slices.Contains(container.Config.Env, want) {
			key, _, _ := strings.Cut(want, "=")
			f.Add(engine.Difference{Object: "container " + nodeContainer, Actual: "another " + key, Expected: "the unit's"})
		}
	}
	return nil
}

// environment lists the container's variables, KEY=VALUE.
func (s node) environment(ctx context.Context) []string {
	address, err := s.address(ctx)
	if err != nil {
		return nil
	}
	var list []string
	args := NodeArguments(s.Config, s.nodeName(), address)
	for i, a := range args {
		if a == "-e" && i+1 < len(args) {
			list = append(list, args[i+1])
		}
	}
	return list
}

// ready asks Felix and BIRD. Not -bird-ready: it wants all peers Established
// at first, so that one stale Node elsewhere would fail a healthy join.
func (s node) ready(ctx context.Context) error {
	status, out, err := s.Host.Docker().Exec(ctx, nodeContainer, []string{"calico-node", "-felix-ready", "-bird-live"})
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("not ready: %s", lastLine(out))
	}
	return nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func (s node) Apply(ctx context.Context, report engine.Progress) error {
	want, err := s.unitFile(ctx)
	if err != nil {
		return err
	}
	var stale engine.CheckResult
	if want.check(s.Host, &stale); !stale.OK() {
		if err := want.write(s.Host); err != nil {
			return err
		}
	}
	if err := s.Host.Systemd().DaemonReload(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	if err := s.Host.Systemd().Enable(ctx, units.CalicoNode); err != nil {
		return &engine.Retry{Err: err}
	}
	if err := s.restartIfWrong(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	report("waiting for calico-node to be ready", 0, 0)
	if err := s.poll(ctx, s.Config.Timeouts.Node, func() error { return s.ready(ctx) }); err != nil {
		return &engine.Retry{Err: engine.WithHint(fmt.Errorf("calico-node is not ready: %w", err), "journalctl -u calico-node")}
	}
	s.waitForPeers(ctx, report)
	return nil
}

// restartIfWrong starts the unit, or restarts it if what runs was started
// from something else. A node that is right is never restarted: that is an
// outage of every container's network on this host.
func (s node) restartIfWrong(ctx context.Context) error {
	systemd := s.Host.Systemd()
	unit, err := systemd.Unit(ctx, units.CalicoNode)
	if err != nil {
		return err
	}
	if unit.Active != "active" {
		return systemd.Start(ctx, units.CalicoNode)
	}
	wrong, err := s.wrong(ctx, unit)
	if err == nil && wrong {
		return systemd.Restart(ctx, units.CalicoNode)
	}
	return err
}

// wrong tells a node that must be restarted: one of another unit file, image
// or environment, and one that should run and be ready by now.
func (s node) wrong(ctx context.Context, unit host.UnitState) (bool, error) {
	older, err := s.startedBefore(unit.Since, units.CalicoNodePath)
	if err != nil || older {
		return older, err
	}
	young := time.Since(unit.Since) < s.Config.Timeouts.Node
	container, running, err := s.container(ctx)
	if err != nil || !running {
		return !young, err
	}
	var f engine.CheckResult
	if err := s.checkOrigin(ctx, container, &f); err != nil || !f.OK() {
		return !f.OK(), err
	}
	return !young && s.ready(ctx) != nil, nil
}

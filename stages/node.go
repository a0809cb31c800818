package stages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// node runs calico-node as a systemd unit, with the pinned image and the right
// name and address. The stage is done when calico-node is ready.
type node struct{ *Env }

func (node) Name() string { return "node" }

// After contains calicoctl because only that can remove a Node from the cluster again.
func (node) After() []string { return []string{"docker", "calicoctl", "sysctl"} }

// wanted returns what this host's calico-node is started with.
func (s node) wanted(ctx context.Context) (calico.Node, error) {
	address, err := s.address(ctx)
	return calico.Node{Config: s.Config, Name: s.nodeName(), Address: address}, err
}

// files returns the files that calico-node starts from.
func (s node) files(ctx context.Context) ([]host.File, error) {
	wanted, err := s.wanted(ctx)
	if err != nil {
		return nil, err
	}
	return wanted.Files(s.Host)
}

func (s node) Check(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	list, err := s.files(ctx)
	if err != nil {
		return f, err
	}
	if err := checkFiles(s.Host, list, &f); err != nil {
		return f, err
	}
	if len(list) == 1 && s.Host.Exists(units.CalicoNodeEnv) {
		f.Add(engine.Difference{Object: units.CalicoNodeEnv, Actual: "present", Expected: "removed, because node.environment is empty"})
	}
	if !f.OK() {
		return f, nil
	}
	unit, err := s.unit(ctx, units.CalicoNode)
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
			Object: units.CalicoNode, Actual: s.unitState(ctx, units.CalicoNode, unit), Expected: "active",
			Fix: "systemctl start calico-node; journalctl -u calico-node",
		})
		return f, nil
	}
	unread, err := s.unreadFile(unit)
	if err != nil {
		return f, err
	}
	if unread != "" {
		f.Add(engine.Difference{Object: units.CalicoNode, Actual: "started before " + unread + " was written", Expected: "restarted"})
		return f, nil
	}
	return f, s.checkContainer(ctx, unit, &f)
}

// unreadFile returns a file that was written after the unit's start, or "".
func (s node) unreadFile(unit host.UnitState) (string, error) {
	if s.Notes.Notes().IsOutdated(units.CalicoNode, unit.Since) {
		return units.CalicoNodePath, nil
	}
	paths := append([]string{units.CalicoNodePath, units.CalicoNodeEnv}, calico.Node{Config: s.Config}.Certificates()...)
	for _, path := range paths {
		older, err := s.startedBefore(unit.Since, path)
		if older || err != nil && !host.NotExist(err) {
			return path, err
		}
	}
	return "", nil
}

// checkContainer adds a difference unless the container runs, was started from
// the current unit file, and is ready.
func (s node) checkContainer(ctx context.Context, unit host.UnitState, f *engine.CheckResult) error {
	container, running, err := s.container(ctx)
	if err != nil {
		return err
	}
	if !running {
		f.Add(engine.Difference{Object: "container " + calico.NodeContainer, Actual: "not running", Expected: "running", Fix: "journalctl -u calico-node"})
		return nil
	}
	if err := s.compareContainer(ctx, container, f); err != nil || !f.OK() {
		return err
	}
	err = s.ready(ctx, unit, container)
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if err != nil {
		f.Add(engine.Difference{Object: "calico-node", Actual: err.Error(), Expected: "ready", Fix: "journalctl -u calico-node"})
		return nil //nolint:nilerr // the error is the actual value of the difference
	}
	s.warnAboutPeers(ctx, f)
	return nil
}

// container returns the calico-node container and reports whether it runs.
func (s node) container(ctx context.Context) (c dockerd.ContainerDetails, running bool, err error) {
	c, err = s.docker().Container(ctx, calico.NodeContainer)
	if dockerd.NotFound(err) {
		return c, false, nil
	}
	return c, err == nil && c.State.Running, err
}

// compareContainer compares the running container's image and environment with
// the configured ones.
func (s node) compareContainer(ctx context.Context, container dockerd.ContainerDetails, f *engine.CheckResult) error {
	image, err := s.docker().Image(ctx, s.Config.Node.Image)
	if err != nil && !dockerd.NotFound(err) {
		return err
	}
	if container.Image != image.ID {
		f.Add(engine.Difference{Object: "container " + calico.NodeContainer, Actual: "image " + container.Config.Image, Expected: s.Config.Node.Image})
	}
	wanted, err := s.wanted(ctx)
	if err != nil {
		return err
	}
	want := wanted.Environment()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !slices.Contains(container.Config.Env, key+"="+want[key]) {
			f.Add(engine.Difference{Object: "container " + calico.NodeContainer, Actual: "another value of " + key, Expected: "the configured value"})
		}
	}
	return nil
}

// ready returns an error unless calico-node, which the unit runs in the container, is
// ready. Its own command is the last resort, because it starts a program of 70 MB.
func (s node) ready(ctx context.Context, unit host.UnitState, container dockerd.ContainerDetails) error {
	err := calico.Responds(ctx, s.Host, s.Config)
	if errors.Is(err, calico.ErrNoDataplane) && time.Since(unit.Since) < firstCommand {
		return err
	}
	if err != nil || !calico.ConfdRuns(s.Host, container.State.Pid) {
		err = calico.Ready(ctx, s.docker())
	}
	if err == nil {
		s.nodeReady.Store(true)
	}
	return err
}

// firstCommand is the time after which calico-node's own command is tried as well, at
// most half of timeouts.node. The command takes seconds of CPU time on a slow machine,
// on which calico-node may need as long to start, and it does not notice that Felix has
// not started its data plane.
const firstCommand = time.Minute

// becomesReady returns a function that returns nil once calico-node is ready. It
// queries Felix and BIRD without starting a program. If they do not answer where
// they are expected, it rarely tries the command in the container.
func (s node) becomesReady() func(context.Context) error {
	queries, command := 0, int(min(firstCommand, s.Config.Timeouts.Node/2)/pollPause)
	return func(ctx context.Context) error {
		err := calico.Responds(ctx, s.Host, s.Config)
		if queries++; err == nil || queries < command {
			return err
		}
		command *= 2
		return calico.Ready(ctx, s.docker())
	}
}

func (s node) Apply(ctx context.Context, report engine.Progress) (err error) {
	defer s.settle(ctx, &err) // usually another stage did since
	s.expectFiles(ctx)
	if err := s.writeNodeFiles(ctx); err != nil {
		return err
	}
	if err := s.enable(ctx, units.CalicoNode); err != nil {
		return err
	}
	if err := s.startOrRestart(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	report("waiting for calico-node to be ready", 0, 0)
	if err := s.poll(ctx, s.Config.Timeouts.Node, s.becomesReady()); err != nil {
		return &engine.Retry{Err: engine.WithHint(fmt.Errorf("calico-node is not ready: %w", err), "journalctl -u calico-node")}
	}
	s.nodeReady.Store(true)
	s.waitForPeers(ctx, report)
	return nil
}

// writeNodeFiles writes the files that calico-node starts from, and removes the one that
// it no longer needs.
func (s node) writeNodeFiles(ctx context.Context) error {
	list, err := s.files(ctx)
	if err != nil {
		return err
	}
	if err := s.writeFiles(ctx, list, units.CalicoNode); err != nil {
		return err
	}
	if len(list) > 1 || !s.Host.Exists(units.CalicoNodeEnv) {
		return nil
	}
	if err := s.noteOutdated(ctx, units.CalicoNode); err != nil {
		return err
	}
	return s.Host.Remove(units.CalicoNodeEnv)
}

// startOrRestart starts the unit, or restarts it if its container must be
// replaced. A correct calico-node is never restarted, because a restart
// interrupts the network of every container on this host.
func (s node) startOrRestart(ctx context.Context) error {
	systemd := s.Host.Systemd()
	unit, err := systemd.Unit(ctx, units.CalicoNode)
	if err != nil {
		return err
	}
	if unit.Active != "active" {
		return systemd.Start(ctx, units.CalicoNode)
	}
	needed, err := s.needsRestart(ctx, unit)
	if err == nil && needed {
		return systemd.Restart(ctx, units.CalicoNode)
	}
	return err
}

// needsRestart reports whether the unit must be restarted: because its unit
// file, image or environment has changed, or because its container still does
// not run or is not ready after timeouts.node.
func (s node) needsRestart(ctx context.Context, unit host.UnitState) (bool, error) {
	unread, err := s.unreadFile(unit)
	if err != nil || unread != "" {
		return err == nil, err
	}
	starting := time.Since(unit.Since) < s.Config.Timeouts.Node
	container, running, err := s.container(ctx)
	if err != nil || !running {
		return !starting, err
	}
	var f engine.CheckResult
	if err := s.compareContainer(ctx, container, &f); err != nil || !f.OK() {
		return !f.OK(), err
	}
	return !starting && s.ready(ctx, unit, container) != nil, nil
}

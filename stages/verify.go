package stages

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/state"
)

const (
	// probeLabel marks the probe container, so that firstboot does not mistake
	// it for a container of the user.
	probeLabel = "io.firstboot.probe"
	// probeInterface is the name of the container's first interface: the
	// plugin's prefix and a number.
	probeInterface = "cali0"
	// ProbeCommand is the hidden command that the probe container runs: it
	// waits until it is stopped.
	ProbeCommand = "probe-container"
	// startTimeout bounds creating and starting the container. Measured: 35–39 s
	// for the first container on an emulated machine.
	startTimeout = 2 * time.Minute
	// pingTimeout bounds the wait for the first reply. Measured: Felix programs
	// a new endpoint within seconds, or 20 s after a repair of the pool.
	pingTimeout = 60 * time.Second
	// cleanTimeout bounds the removal, which happens even if the run is
	// interrupted.
	cleanTimeout = 30 * time.Second
)

// verify starts a probe container on the network, checks its interface, and
// pings it from the host, because an interface alone proves nothing.
type verify struct{ *Env }

func (verify) Name() string { return "verify" }

// After does not name node: its container starts while calico-node becomes ready,
// and the ping waits for both.
func (verify) After() []string { return []string{"pool", "sysctl"} }

// With names the stage that makes calico-node ready.
func (verify) With() []string { return []string{"node"} }

// Check reads the record of the last probe, so that `firstboot status` never
// starts a container. A network that was created again needs a new probe.
func (s verify) Check(ctx context.Context) (engine.CheckResult, error) {
	f, err := s.dockerActive(ctx)
	if err != nil || !f.OK() {
		return f, err
	}
	last := s.Notes.Notes().Probe
	name := s.Config.Pool.NetworkName()
	if last.NetworkID == "" {
		f.Add(engine.Difference{Object: "probe container", Actual: "not started yet", Expected: "a reply from a container on " + name, Fix: "firstboot verify"})
		return f, nil
	}
	network, err := s.poolNetwork(ctx)
	if err != nil {
		return f, err
	}
	switch {
	case network == nil:
		f.Add(engine.Difference{Object: "Docker network " + name, Actual: "missing", Expected: "created"})
	case last.NetworkID != network.ID:
		f.Add(engine.Difference{Object: "probe container", Actual: "tested on an earlier network " + name, Expected: "tested on network " + network.ID[:min(12, len(network.ID))], Fix: "firstboot run --force"})
	case last.BootID != s.Host.BootID():
		f.Notes = append(f.Notes, "the probe container last replied at "+last.Time.UTC().Format(time.RFC3339)+", before this boot; run firstboot verify to test again")
	}
	return f, nil
}

// Apply runs the probe container and records that it replied. calico-node may still
// be starting.
func (s verify) Apply(ctx context.Context, report engine.Progress) error {
	return s.probe(ctx, report, true)
}

// Probe runs the probe container again. It implements app.Prober.
func (s verify) Probe(ctx context.Context) error {
	return s.probe(ctx, func(string, int64, int64) {}, false)
}

// awaitRegistration returns a *engine.Wait unless calico-node has written this host's
// Node to etcd. The plugin gives addresses only to hosts with a Node.
func (s verify) awaitRegistration(ctx context.Context, report engine.Progress) error {
	if s.nodeResponds(ctx) == nil {
		return nil
	}
	report("waiting for calico-node to write its Node to etcd", 0, 0)
	return s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		var refused error // a person must mend it
		err := s.poll(ctx, pingTimeout, func(ctx context.Context) error {
			node, err := c.Node(ctx, s.nodeName())
			if fault.IsPermanent(err) {
				refused = err
				return nil
			}
			if err == nil && node == nil {
				err = fmt.Errorf("etcd has no Node %s", s.nodeName())
			}
			return err
		})
		if err != nil {
			return &engine.Wait{For: "calico-node to write its Node to etcd", Err: err}
		}
		return refused
	})
}

// awaitNode returns a *engine.Wait unless calico-node becomes ready, without which no
// container has a network. The stage node reports why it does not.
func (s verify) awaitNode(ctx context.Context, report engine.Progress) error {
	report("waiting for calico-node to be ready", 0, 0)
	if err := s.poll(ctx, pingTimeout, s.nodeResponds); err != nil {
		return &engine.Wait{For: "calico-node to be ready", Err: err}
	}
	return nil
}

// nodeResponds returns an error unless calico-node is ready now or was in this run.
func (s verify) nodeResponds(ctx context.Context) error {
	if s.nodeReady.Load() {
		return nil
	}
	return calico.Responds(ctx, s.Host, s.Config)
}

// probe runs the probe container. joining means that calico-node may still be starting:
// the container starts meanwhile.
func (s verify) probe(ctx context.Context, report engine.Progress, joining bool) error {
	network, err := s.poolNetwork(ctx)
	switch {
	case isWait(err):
		return err
	case err != nil:
		return &engine.Retry{Err: err}
	}
	if network == nil {
		return engine.WithHint(fmt.Errorf("cannot find the Docker network %s", s.Config.Pool.NetworkName()), "firstboot run --force creates it")
	}
	address, err := s.runProbe(ctx, *network, report, joining)
	if err != nil && !isWait(err) {
		return &engine.Retry{Err: err}
	}
	if err != nil {
		return err
	}
	return s.Notes.SetNotes(func(n *state.Notes) {
		n.Probe = state.Probe{BootID: s.Host.BootID(), NetworkID: network.ID, Address: address.String(), Time: time.Now().UTC()}
	})
}

// probeName returns the name of the probe container. It contains the host's
// name, because names on a global network are unique in the cluster.
func (s verify) probeName() string { return "firstboot-probe-" + s.nodeName() }

// runProbe starts, tests and removes the probe container. It returns the address
// from which the container replied.
func (s verify) runProbe(ctx context.Context, network dockerd.Network, report engine.Progress, joining bool) (netip.Addr, error) {
	if err := s.removeProbe(ctx, network); err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = s.removeProbe(context.WithoutCancel(ctx), network) }()
	if joining {
		if err := s.awaitRegistration(ctx, report); err != nil {
			return netip.Addr{}, err
		}
	}
	report("starting the probe container on network "+network.Name, 0, 0)
	id, err := s.startContainer(ctx, network)
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := s.checkInterface(ctx, id, network.Name)
	if err != nil {
		return netip.Addr{}, err
	}
	if joining {
		if err := s.awaitNode(ctx, report); err != nil {
			return netip.Addr{}, err
		}
	}
	report("pinging "+address.String(), 0, 0)
	err = s.poll(ctx, pingTimeout, func(ctx context.Context) error { return s.Host.Network().Ping(ctx, address) })
	if err != nil {
		return netip.Addr{}, engine.WithHint(fmt.Errorf("cannot ping the probe container at %s from this host: %w", address, err),
			"check journalctl -u calico-node (Felix), ip route get %s, and that udevd has read %s (udevadm control --reload)", address, calico.LinkPath)
	}
	return address, nil
}

func (s verify) startContainer(ctx context.Context, network dockerd.Network) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	d := s.docker()
	// Docker has this image, so that no other one is pulled or imported.
	id, err := d.CreateContainer(ctx, dockerd.NewContainer{
		Name: s.probeName(), Image: s.Config.Node.Image, Entrypoint: []string{"/firstboot"}, Command: []string{ProbeCommand},
		Mounts: []dockerd.Mount{{Type: "bind", Source: s.Self, Target: "/firstboot", ReadOnly: true}}, Network: network.Name, Labels: map[string]string{probeLabel: "1"},
	})
	if err != nil {
		return "", fmt.Errorf("cannot create the probe container: %w", err)
	}
	if err := d.StartContainer(ctx, id); err != nil {
		return "", engine.WithHint(fmt.Errorf("cannot start the probe container on network %s: %w", network.Name, err), "journalctl -u docker -u eru-minions")
	}
	return id, nil
}

// checkInterface returns the container's address. It returns an error unless the
// interface in the container's network namespace has the address that Docker
// reports, and the address is in the pool.
func (s verify) checkInterface(ctx context.Context, id, network string) (netip.Addr, error) {
	c, err := s.docker().Container(ctx, id)
	if err != nil {
		return netip.Addr{}, err
	}
	if !c.State.Running {
		return netip.Addr{}, fmt.Errorf("the probe container exited with status %d: %s", c.State.ExitCode, c.State.Error)
	}
	address, err := netip.ParseAddr(c.NetworkSettings.Networks[network].IPAddress)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the probe container has no address on network %s", network)
	}
	if !s.Config.Pool.CIDR.Contains(address) {
		return netip.Addr{}, fmt.Errorf("the probe container's address %s is not in the pool %s", address, s.Config.Pool.CIDR)
	}
	proc := fmt.Sprintf("/proc/%d/net/", c.State.Pid)
	links, err := s.Host.ReadFile(proc + "dev")
	if err != nil {
		return netip.Addr{}, err
	}
	if !strings.Contains(string(links), probeInterface+":") {
		return netip.Addr{}, fmt.Errorf("the probe container has no interface %s", probeInterface)
	}
	local, err := s.Host.ReadFile(proc + "fib_trie")
	if err != nil {
		return netip.Addr{}, err
	}
	if !strings.Contains(string(local), "-- "+address.String()+"\n") {
		return netip.Addr{}, fmt.Errorf("the probe container's %s does not have the address %s", probeInterface, address)
	}
	return address, nil
}

// removeProbe removes the probe container, and the endpoint that a power cut may
// have left in the cluster store under the container's name.
func (s verify) removeProbe(ctx context.Context, network dockerd.Network) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	d := s.docker()
	old, err := d.Container(ctx, s.probeName())
	switch {
	case dockerd.NotFound(err):
	case err != nil:
		return fmt.Errorf("cannot remove the probe container: %w", err)
	case old.Config.Labels[probeLabel] == "":
		return fault.WithHint(fault.Permanent, fault.Config,
			fmt.Errorf("cannot start the probe container: a container that firstboot did not create has the name %s", s.probeName()),
			"rename that container: docker rename "+s.probeName()+" NAME")
	default:
		if err := d.RemoveContainer(ctx, s.probeName()); err != nil {
			return fmt.Errorf("cannot remove the probe container: %w", err)
		}
	}
	// Usually nothing is connected, and Docker returns an error.
	_ = d.DisconnectContainer(ctx, network.ID, s.probeName())
	return nil
}

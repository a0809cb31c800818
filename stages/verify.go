package stages

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

const (
	// probeLabel marks the probe container, so that it is never taken for
	// somebody's workload.
	probeLabel = "io.firstboot.probe"
	probeImage = "firstboot-probe:latest"
	// probeInterface is the container's first interface: the plugin's prefix
	// and a number.
	probeInterface = "cali0"
	// ProbeCommand is the hidden command that the probe container runs: it
	// waits until it is stopped.
	ProbeCommand = "probe-container"
	// probeStart bounds making and starting the container, pingTime the wait
	// for its first answer. Measured: 35–39 s for a first container on an
	// emulated machine; Felix programs a new endpoint in seconds, and 20 s
	// after the pool was repaired.
	probeStart = 2 * time.Minute
	pingTime   = 60 * time.Second
	// cleanTime bounds the removal, which also an interrupted run makes.
	cleanTime = 30 * time.Second
)

// verify starts a container on the network, looks at its interface, and pings
// it from the host: an interface alone proves nothing.
type verify struct{ *Env }

func (verify) Name() string    { return "verify" }
func (verify) After() []string { return []string{"pool"} }

// Check reads what the last test noted, so that asking for the status never
// starts containers. A network that was made anew needs a new test.
func (s verify) Check(ctx context.Context) (engine.CheckResult, error) {
	f, err := s.dockerActive(ctx)
	if err != nil || !f.OK() {
		return f, err
	}
	network, err := s.poolNetwork(ctx)
	if err != nil {
		return f, err
	}
	noted := s.Notes.Notes().Probe
	name := s.Config.Pool.NetworkName()
	switch {
	case network == nil:
		f.Add(engine.Difference{Object: "Docker network " + name, Actual: "not there", Expected: "there"})
	case noted.NetworkID == "":
		f.Add(engine.Difference{Object: "container test", Actual: "not made yet", Expected: "a container on " + name + " that answers", Fix: "firstboot verify makes it"})
	case noted.NetworkID != network.ID:
		f.Add(engine.Difference{Object: "container test", Actual: "made on another network of that name", Expected: "one on network " + network.ID[:min(12, len(network.ID))], Fix: "firstboot run --force"})
	case noted.BootID != s.Host.BootID():
		f.Notes = append(f.Notes, "the container test was made at "+noted.Time.UTC().Format(time.RFC3339)+", before this boot; firstboot verify makes it anew")
	}
	return f, nil
}

// Apply makes the test and notes that it passed.
func (s verify) Apply(ctx context.Context, report engine.Progress) error {
	return s.test(ctx, report)
}

// Probe makes the test anew (app.Prober).
func (s verify) Probe(ctx context.Context) error {
	return s.test(ctx, func(string, int64, int64) {})
}

func (s verify) test(ctx context.Context, report engine.Progress) error {
	network, err := s.poolNetwork(ctx)
	switch {
	case isWait(err):
		return err
	case err != nil:
		return &engine.Retry{Err: err}
	}
	if network == nil {
		return engine.WithHint(fmt.Errorf("there is no Docker network %s", s.Config.Pool.NetworkName()), "firstboot run --force makes it")
	}
	address, err := s.tryContainer(ctx, *network, report)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	return s.Notes.SetNotes(func(n *state.Notes) {
		n.Probe = state.Probe{BootID: s.Host.BootID(), NetworkID: network.ID, Address: address.String(), Time: time.Now().UTC()}
	})
}

// probeName is unique in the cluster, as names on a global network must be.
func (s verify) probeName() string { return "firstboot-probe-" + s.nodeName() }

// tryContainer returns the address at which the container answered.
func (s verify) tryContainer(ctx context.Context, network host.DockerNetwork, report engine.Progress) (netip.Addr, error) {
	if err := s.clean(ctx, network); err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = s.clean(context.WithoutCancel(ctx), network) }()
	report("starting a container on "+network.Name, 0, 0)
	id, err := s.startContainer(ctx, network)
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := s.lookInside(ctx, id, network.Name)
	if err != nil {
		return netip.Addr{}, err
	}
	report("pinging "+address.String(), 0, 0)
	err = s.poll(ctx, pingTime, func() error { return s.Host.Network().Ping(ctx, address) })
	if err != nil {
		return netip.Addr{}, engine.WithHint(fmt.Errorf("the container at %s does not answer a ping from this host: %w", address, err),
			"journalctl -u calico-node (Felix); ip route get %s; is %s in force (udevadm control --reload)?", address, linkPath)
	}
	return address, nil
}

func (s verify) startContainer(ctx context.Context, network host.DockerNetwork) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeStart)
	defer cancel()
	d := s.Host.Docker()
	if err := d.ImportProgram(ctx, s.Self, "/firstboot", probeImage); err != nil {
		return "", err
	}
	id, err := d.CreateContainer(ctx, host.NewContainer{
		Name: s.probeName(), Image: probeImage, Command: []string{"/firstboot", ProbeCommand},
		Network: network.Name, Labels: map[string]string{probeLabel: "1"},
	})
	if err != nil {
		return "", fmt.Errorf("cannot make the probe container: %w", err)
	}
	if err := d.StartContainer(ctx, id); err != nil {
		return "", engine.WithHint(fmt.Errorf("cannot start a container on %s: %w", network.Name, err), "journalctl -u docker -u eru-minions")
	}
	return id, nil
}

// lookInside wants the interface in the container's network namespace, with
// the address that Docker says, out of the pool.
func (s verify) lookInside(ctx context.Context, id, network string) (netip.Addr, error) {
	c, err := s.Host.Docker().Container(ctx, id)
	if err != nil {
		return netip.Addr{}, err
	}
	if !c.State.Running {
		return netip.Addr{}, fmt.Errorf("the probe container ended with status %d: %s", c.State.ExitCode, c.State.Error)
	}
	address, err := netip.ParseAddr(c.NetworkSettings.Networks[network].IPAddress)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the container has no address on %s", network)
	}
	if !s.Config.Pool.CIDR.Contains(address) {
		return netip.Addr{}, fmt.Errorf("the container's address %s is not of the pool %s", address, s.Config.Pool.CIDR)
	}
	proc := fmt.Sprintf("/proc/%d/net/", c.State.Pid)
	links, err := s.Host.ReadFile(proc + "dev")
	if err != nil {
		return netip.Addr{}, err
	}
	if !strings.Contains(string(links), probeInterface+":") {
		return netip.Addr{}, fmt.Errorf("the container has no %s", probeInterface)
	}
	local, err := s.Host.ReadFile(proc + "fib_trie")
	if err != nil {
		return netip.Addr{}, err
	}
	if !strings.Contains(string(local), "-- "+address.String()+"\n") {
		return netip.Addr{}, fmt.Errorf("the container's %s does not have the address %s", probeInterface, address)
	}
	return address, nil
}

// clean removes the container, the image, and the endpoint that a power cut
// left in the cluster's store under the container's name.
func (s verify) clean(ctx context.Context, network host.DockerNetwork) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTime)
	defer cancel()
	d := s.Host.Docker()
	if err := d.RemoveContainer(ctx, s.probeName()); err != nil {
		return fmt.Errorf("cannot remove the probe container: %w", err)
	}
	// Nothing is connected in the common case, which Docker calls an error.
	_ = d.DisconnectContainer(ctx, network.ID, s.probeName())
	return d.RemoveImage(ctx, probeImage)
}

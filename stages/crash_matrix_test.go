package stages_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/test/etcdtest"
)

// TestNextRunCompletesAfterKillAtAnyStep kills a run at one of its steps, in turn
// by killing the process and by a power cut. The next run must end with the same
// machine as an undisturbed run. The integration tests try every step, the other
// tests one step in stride.
func TestNextRunCompletesAfterKillAtAnyStep(t *testing.T) {
	t.Parallel()
	crashMatrix(t, 80, false, func(*machine) {})
}

// TestNextRunCompletesAfterKillWhileAnEditIsApplied does the same on a complete
// host whose configuration was edited, so that Docker, the plugin and
// calico-node are restarted.
func TestNextRunCompletesAfterKillWhileAnEditIsApplied(t *testing.T) {
	t.Parallel()
	crashMatrix(t, 40, true, func(m *machine) {
		m.mustRun()
		m.override("{docker: {clusterStore: 'etcd://10.0.0.9:2379'}, node: {environment: {FELIX_A: a}}, minions: {environment: {A: a}}, sysctl: {net.netfilter.nf_conntrack_max: 2000000}}")
	})
}

// TestNextRunCompletesAfterKillWithALocalNetwork does the same on a host with
// today's Docker.
func TestNextRunCompletesAfterKillWithALocalNetwork(t *testing.T) {
	t.Parallel()
	crashMatrix(t, 70, false, toToday)
}

// TestNextRunCompletesAfterKillWhileTheNetworkBecomesLocal does the same while a
// global host moves to a local network.
func TestNextRunCompletesAfterKillWhileTheNetworkBecomesLocal(t *testing.T) {
	t.Parallel()
	crashMatrix(t, 30, true, func(m *machine) {
		m.mustRun()
		// Otherwise IPv6 is on again only after a reboot, and so after a power cut.
		m.override("{docker: {network: local}, sysctl: {net.ipv6.conf.all.disable_ipv6: '0', net.ipv6.conf.default.disable_ipv6: '0'}}")
	})
}

// toToday gives a host a Docker without cluster-stores.
func toToday(m *machine) {
	m.docker.version = "26.1.5+dfsg1"
	m.override("docker: {network: auto}")
}

// crashMatrix kills a run at each of its steps, each time on a new machine that
// was prepared. The run must have at least so many steps.
func crashMatrix(t *testing.T, least int, force bool, prepare func(*machine)) {
	t.Helper()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	whole := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	artifacts := whole.artifacts
	prepare(whole)
	labels, nth := stepsToKillAt(whole.mustRunWith(force))
	files, state := whole.files(), whole.state()
	if len(labels) < least {
		t.Fatalf("a run has only %d steps, want at least %d: %q", len(labels), least, labels)
	}
	missed := 0
	for i := range labels {
		for _, cut := range []bool{false, true} {
			if !everyStep && (i%stride != 0 || cut != (i/stride%2 == 0)) {
				continue
			}
			t.Run(fmt.Sprintf("%s (%d), power cut %v", labels[i], nth[i], cut), func(t *testing.T) {
				m := newHostFrom(t, newCluster(t, etcd.Endpoint), "host1", artifacts)
				prepare(m)
				if !m.runAndKillAt(labels[i], nth[i], force) {
					missed++
				}
				m.cluster.expireLeases()
				if cut {
					m.powerCut()
				}
				m.mustRunWith(force)
				m.wantSame(files, state)
			})
		}
	}
	if missed > len(labels)/10 {
		t.Errorf("%d of %d steps were not reached", missed, len(labels))
	}
	t.Logf("%d steps, %d of those tried were not reached", len(labels), missed)
}

func (m *machine) wantSame(files map[string]string, state map[string]any) {
	m.t.Helper()
	if d := cmp.Diff(files, m.files()); d != "" {
		m.t.Errorf("the files differ: %s", d)
	}
	if d := cmp.Diff(state, m.state()); d != "" {
		m.t.Errorf("the state differs: %s", d)
	}
}

// TestNextRunCompletesAfterKillWhileALocalNetworkIsCreated kills a run while the
// pool or this host's own network is created.
func TestNextRunCompletesAfterKillWhileALocalNetworkIsCreated(t *testing.T) {
	t.Parallel()
	killDuringCommands(t, toToday, "Profile is created", "IPPool is created", "the local network is stored", "the probe container runs")
}

// TestNextRunCompletesAfterKillDuringACommand kills a run while a command or
// daemon is at a point of its work. The command then continues without the run,
// or ends in a power cut.
func TestNextRunCompletesAfterKillDuringACommand(t *testing.T) {
	t.Parallel()
	killDuringCommands(t, func(*machine) {},
		"rpm has unpacked a part", "rpm has unpacked", "rpm has recorded the package", "the image is loaded",
		"Profile is created", "IPPool is created", "the pool is bound to a network that is not stored", "the network is stored",
		"the pool is patched", "the probe container runs")
}

// killDuringCommands kills runs on prepared hosts, each at one of the points.
func killDuringCommands(t *testing.T, prepare func(*machine), points ...string) {
	t.Helper()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	whole := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	prepare(whole)
	whole.mustRun()
	files, state := whole.files(), whole.state()
	for _, point := range points {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, power cut %v", point, cut), func(t *testing.T) {
				m := newHostFrom(t, newCluster(t, etcd.Endpoint), "host1", whole.artifacts)
				prepare(m)
				m.runAndKillAtPause(point, cut)
				m.cluster.expireLeases()
				if cut {
					m.powerCut()
				}
				m.mustRun()
				m.wantSame(files, state)
			})
		}
	}
}

// runAndKillAtPause kills a run while a daemon or command is at a point of its
// work. After a power cut, that work does not continue.
func (m *machine) runAndKillAtPause(point string, powerCut bool) {
	m.t.Helper()
	p := &pause{point: point, reached: make(chan struct{}), released: make(chan struct{}), powerCut: powerCut}
	m.cluster.pause = p
	child := m.child()
	if err := child.Start(); err != nil {
		m.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- child.Wait() }()
	select {
	case <-p.reached:
	case err := <-done:
		m.t.Fatalf("the run ended before the point %q: %v", point, err)
	}
	_ = child.Process.Kill()
	<-done
	close(p.released)
	// Wait until the work that continues without the run has ended.
	m.rpmMu.Lock()
	m.rpmMu.Unlock() //nolint:staticcheck // locked only to wait
	m.docker.idle.Wait()
}

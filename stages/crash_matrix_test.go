package stages_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/test/etcdtest"
)

// TestKilledAnywhereTheNextRunEndsInTheSameMachine kills a whole run at its
// steps, by the process's end and by a power cut in turn; the next run goes on
// from there. Every step is tried with the integration tests, a part of them
// otherwise.
func TestKilledAnywhereTheNextRunEndsInTheSameMachine(t *testing.T) {
	t.Parallel()
	crashMatrix(t, 80, false, func(*machine) {})
}

// TestKilledWhileItFollowsAnEdit does the same to a member whose configuration
// was edited, so that Docker, the plugin and calico-node start anew.
func TestKilledWhileItFollowsAnEdit(t *testing.T) {
	t.Parallel()
	crashMatrix(t, 40, true, func(m *machine) {
		m.mustRun()
		m.override("{docker: {clusterStore: 'etcd://10.0.0.9:2379'}, node: {environment: {FELIX_A: a}}, minions: {environment: {A: a}}, sysctl: {net.netfilter.nf_conntrack_max: 2000000}}")
	})
}

// crashMatrix kills a run on a machine that was prepared at each of at least
// so many steps.
func crashMatrix(t *testing.T, least int, force bool, prepare func(*machine)) {
	t.Helper()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	whole := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	artifacts := whole.artifacts
	prepare(whole)
	labels, nth := stepsToKillAt(whole.mustRunWith(force))
	files, state := whole.files(), whole.state()
	if len(labels) < least {
		t.Fatalf("a run has only %d steps: are they counted? %q", len(labels), labels)
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
		t.Errorf("%d of %d steps were not met", missed, len(labels))
	}
	t.Logf("%d steps, %d of those tried were not met", len(labels), missed)
}

func (m *machine) wantSame(files map[string]string, state map[string]any) {
	m.t.Helper()
	if d := cmp.Diff(files, m.files()); d != "" {
		m.t.Errorf("other files: %s", d)
	}
	if d := cmp.Diff(state, m.state()); d != "" {
		m.t.Errorf("another machine: %s", d)
	}
}

// TestKilledInTheMiddleOfACommand: what the run asked for was done by a half,
// or done and never answered; it goes on without the run, or ends with the
// power.
func TestKilledInTheMiddleOfACommand(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	whole := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	whole.mustRun()
	files, state := whole.files(), whole.state()
	for _, point := range []string{
		"rpm has unpacked a half", "rpm has unpacked", "rpm has noted the package", "the image is loaded",
		"Profile is created", "IPPool is created", "the pool is bound to a network that is not stored", "the network is stored",
		"the pool is patched", "the probe container runs",
	} {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, power cut %v", point, cut), func(t *testing.T) {
				m := newHostFrom(t, newCluster(t, etcd.Endpoint), "host1", whole.artifacts)
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
// work. ended says that this never goes on.
func (m *machine) runAndKillAtPause(point string, ended bool) {
	m.t.Helper()
	p := &pause{point: point, reached: make(chan struct{}), released: make(chan struct{}), ended: ended}
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
		m.t.Fatalf("the run ended without this: %s: %v", point, err)
	}
	_ = child.Process.Kill()
	<-done
	close(p.released)
	// What goes on by itself is over before the next run begins.
	m.rpmMu.Lock()
	m.rpmMu.Unlock() //nolint:staticcheck // only waited for
	m.docker.idle.Wait()
}

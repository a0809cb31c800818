//go:build integration || lab

package stages_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// These tests wait until real leases expire.

// TestNextHostCompletesThePoolAfterKill kills the host that creates the pool,
// while others wait. Its lock expires, and the next host continues: no object is
// created twice. (The crash matrix tries every step, but does not wait for the
// lease.)
func TestNextHostCompletesThePoolAfterKill(t *testing.T) {
	t.Parallel()
	for what, step := range map[string]poolStep{
		"with the lock alone": {"command /usr/bin/calicoctl create", 1},
		"after the pool":      {"command docker POST /networks/create", 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
			holderKilled(t, newCluster(t, etcd.Endpoint), step, func(*machine) {})
		})
	}
}

// poolStep is the nth change of the stage with this label.
type poolStep struct {
	label string
	nth   int
}

// holderKilled runs all stages on a first host and kills it at step. It then runs
// the pool stage on three more hosts. prepare may change each host first.
func holderKilled(t *testing.T, f *fakeCluster, step poolStep, prepare func(*machine)) {
	t.Helper()
	var hosts []*machine
	for i := range 4 {
		m := newHost(t, f, fmt.Sprintf("host%d", i))
		prepare(m)
		if i > 0 {
			m.mustApply("sysctl", "calicoctl", "config", "docker", "minions")
		}
		hosts = append(hosts, m)
	}
	if !hosts[0].runAndKillAt(step.label, step.nth, false) {
		t.Fatalf("the first host was not killed at %v", step)
	}
	start := time.Now()
	waited := hosts[0].name
	var mu sync.Mutex
	reported := map[string]bool{}
	var all sync.WaitGroup
	for _, m := range hosts[1:] {
		stage := m.stage("pool")
		all.Go(func() {
			err := engine.Run(t.Context(), []engine.Stage{stage}, engine.Options{MinBackOff: 50 * time.Millisecond, Events: func(e engine.Event) {
				mu.Lock()
				defer mu.Unlock()
				reported[e.Message] = true
			}})
			if err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	all.Wait()
	if took := time.Since(start); took < 5*time.Second || took > 60*time.Second {
		t.Errorf("the others continued after %v, want the rest of a lease of 30 s", took)
	}
	if !reported["waiting for host "+waited+" to create the pool"] {
		t.Errorf("no host reported that it waits for %s: %q", waited, sorted(reported))
	}
	want := map[string]int{"profiles": 1, "ippools": 1, "network": 1, "patch": 1}
	if d := cmp.Diff(want, f.created); d != "" || len(f.networks) != 1 {
		t.Errorf("created %s, networks %v", d, f.networks)
	}
	for _, m := range hosts[1:] {
		m.wantNoDifferences("pool")
	}
	wantNoLocks(t, hosts[1])
	hosts[0].mustRun() // it boots again, and creates nothing
	if d := cmp.Diff(want, f.created); d != "" {
		t.Errorf("the first host then created %s", d)
	}
}

// TestLostPoolLockStopsTheHost, because another host may hold the lock now.
func TestLostPoolLockStopsTheHost(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.prepareForPool()
	never := make(chan struct{})
	defer close(never)
	m.calicoctl = func(c host.Command) CommandResult {
		ran := m.fakeCalicoctl(c)
		m.cluster.expireLeases()
		<-never // until the stage cancels the command
		return ran
	}
	start := time.Now()
	err := m.apply(t.Context(), "pool")
	if !isError[*engine.Wait](err) || time.Since(start) > 40*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if got := m.stepsWith("command "); len(got) != 1 || len(m.cluster.networks) > 0 {
		t.Errorf("continued without the lock: %q", got)
	}
	m.calicoctl = m.fakeCalicoctl
	m.mustApply("pool")
}

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

// These wait for real leases to lapse, as long as the stage holds them.

// TestPoolHolderKilled kills the host that makes the pool in the middle of it,
// while others wait. Its lock lapses, and the next one goes on from there:
// nothing is made twice. (The crash matrix tries every step, and does not wait
// for the lease.)
func TestPoolHolderKilled(t *testing.T) {
	t.Parallel()
	for what, step := range map[string]poolStep{
		"with a Profile and no pool": {"command /usr/bin/calicoctl create", 2},
		"with a pool and no network": {"command docker POST /networks/create", 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
			holderKilled(t, newCluster(t, etcd.Endpoint), step, func(*machine) {})
		})
	}
}

// poolStep is a change that the stage makes, and which of those like it.
type poolStep struct {
	label string
	nth   int
}

// holderKilled runs the chain on a first host until it is killed at step, and
// the pool stage on three more meanwhile. prepare may change each host before.
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
	told := map[string]bool{}
	var all sync.WaitGroup
	for _, m := range hosts[1:] {
		stage := m.stage("pool")
		all.Go(func() {
			err := engine.Run(t.Context(), []engine.Stage{stage}, engine.Options{MinBackOff: 50 * time.Millisecond, Events: func(e engine.Event) {
				mu.Lock()
				defer mu.Unlock()
				told[e.Message] = true
			}})
			if err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	all.Wait()
	if took := time.Since(start); took < 5*time.Second || took > 60*time.Second {
		t.Errorf("the others went on after %v, want the rest of a lease of 30 s", took)
	}
	if !told["waiting for host "+waited+" to create the pool"] {
		t.Errorf("nobody said whom he waited for: %q", sorted(told))
	}
	want := map[string]int{"profiles": 1, "ippools": 1, "network": 1, "patch": 1}
	if d := cmp.Diff(want, f.created); d != "" || len(f.networks) != 1 {
		t.Errorf("made %s, networks %v", d, f.networks)
	}
	for _, m := range hosts[1:] {
		m.wantNoDifferences("pool")
	}
	wantNoLocks(t, hosts[1])
	hosts[0].mustRun() // it boots again, and finds all made
	if d := cmp.Diff(want, f.created); d != "" {
		t.Errorf("then made %s", d)
	}
}

// TestPoolLockLost: who lost its lease stops, as another host may be at work.
func TestPoolLockLost(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.ready()
	never := make(chan struct{})
	defer close(never)
	m.calicoctl = func(c host.Command) CommandResult {
		ran := m.fakeCalicoctl(c)
		m.cluster.expireLeases()
		<-never // until it is ended
		return ran
	}
	start := time.Now()
	err := m.apply(t.Context(), "pool")
	if !isError[*engine.Retry](err) || time.Since(start) > 40*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if got := m.stepsWith("command "); len(got) != 1 || len(m.cluster.networks) > 0 {
		t.Errorf("went on without the lock: %q", got)
	}
	m.calicoctl = m.fakeCalicoctl
	m.mustApply("pool")
}

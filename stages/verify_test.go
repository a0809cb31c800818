package stages_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

const probeContainer = "firstboot-probe-host1"

// withNetwork returns a machine on which all stages before verify are done.
func withNetwork(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.prepareForPool()
	m.cluster.networks = append(m.cluster.networks, dockerNetwork("firstboot", "calico", "10.213.0.0/16"))
	return m
}

// wantClean fails the test if the probe left something behind.
func (m *machine) wantClean() {
	m.t.Helper()
	if c := m.docker.containers[probeContainer]; c != nil {
		m.t.Errorf("the probe container is left: %+v", c)
	}
	if len(m.cluster.endpoints) > 0 {
		m.t.Errorf("endpoints are left in the cluster: %v", m.cluster.endpoints)
	}
}

// TestNetworkIsMissingOnlyIfEtcdResponds: Docker omits it from its list while etcd
// is slow.
func TestNetworkIsMissingOnlyIfEtcdResponds(t *testing.T) {
	t.Parallel()
	afterVerify := func(then func(*testing.T, *machine)) func(*testing.T, *machine) {
		return func(t *testing.T, m *machine) {
			m.mustApply("pool", "verify")
			then(t, m)
		}
	}
	onEtcd(t, map[string]func(*testing.T, *machine){
		"omitted twice": afterVerify(func(_ *testing.T, m *machine) {
			m.docker.omitNetworks = 2
			m.wantNoDifferences("verify")
			m.docker.omitNetworks = 3
			m.wantDifference("verify", "Docker network firstboot", "missing")
		}),
		"removed": afterVerify(func(_ *testing.T, m *machine) {
			m.cluster.networks = nil
			m.wantDifference("verify", "Docker network firstboot", "missing")
			m.wantPermanentError("verify", "cannot find the Docker network firstboot")
		}),
		"etcd unreachable": afterVerify(func(t *testing.T, m *machine) {
			m.override("etcd: {endpoints: [" + noEtcd + "]}")
			m.docker.omitNetworks = 6
			ctx, cancel := contextWithin(t, 300*time.Millisecond)
			defer cancel()
			if _, err := m.stage("verify").Check(ctx); !isError[*engine.Wait](err) {
				t.Errorf("check: %v", err)
			}
			ctx, cancel = contextWithin(t, 300*time.Millisecond)
			defer cancel()
			if err := m.apply(ctx, "verify"); !isError[*engine.Wait](err) {
				t.Errorf("apply: %v", err)
			}
		}),
	})
}

func TestVerifyRecordsTheProbe(t *testing.T) {
	t.Parallel()
	m := withNetwork(t)
	m.wantDifference("verify", "probe container", "not started yet")
	started := 0
	m.docker.onContainerStart = func(c *container, _ map[string]string) {
		started++
		if c.Name != probeContainer || c.Network != "firstboot" || c.Labels["io.firstboot.probe"] == "" {
			t.Errorf("the container is %+v", c)
		}
	}
	m.mustApply("verify")
	m.wantClean()
	got := m.notes.Notes().Probe
	if started != 1 || got.NetworkID != fakeID("firstboot") || got.BootID != "boot1" || got.Address != "10.213.0.1" || time.Since(got.Time) > time.Minute {
		t.Errorf("started %d containers, recorded %+v", started, got)
	}
	m.wantNoDifferences("verify")
	m.wantNoDifferences("verify")
	if started != 1 {
		t.Errorf("a check started the probe container")
	}
}

func TestVerifyChecksTheRecord(t *testing.T) {
	t.Parallel()
	m := withNetwork(t)
	m.mustApply("verify")
	m.put("/proc/sys/kernel/random/boot_id", "boot2\n")
	if f := m.check("verify"); !f.OK() || len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "before this boot") {
		t.Errorf("after a reboot: %v, %q", f.Differences, f.Notes)
	}
	m.cluster.networks[0].ID = fakeID("created again")
	m.wantDifference("verify", "an earlier network firstboot")
	m.stopDocker()
	m.wantDifference("verify", "docker.service", "inactive")
}

// TestProbeRunsAgain, as `firstboot verify` does on a complete host.
func TestProbeRunsAgain(t *testing.T) {
	t.Parallel()
	m := withNetwork(t)
	m.mustApply("verify")
	before := m.notes.Notes().Probe
	prober := m.stage("verify").(interface{ Probe(context.Context) error })
	if err := prober.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := m.notes.Notes().Probe; !after.Time.After(before.Time) {
		t.Errorf("recorded %+v after %+v", after, before)
	}
	m.docker.noReply["10.213.0.3"] = true
	if err := prober.Probe(t.Context()); err == nil {
		t.Error("passed without a reply from the container")
	}
	m.wantClean()
}

// TestFailedProbeIsReportedAndRemoved.
func TestFailedProbeIsReportedAndRemoved(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		arrange func(*machine)
		word    string
	}{
		"container exits at once":        {alterContainer(func(c *container, _ map[string]string) { c.Running, c.Error = false, "exec format error" }), "exec format error"},
		"no address":                     {alterContainer(func(c *container, _ map[string]string) { c.Address = "" }), "no address on network firstboot"},
		"an address outside of the pool": {alterContainer(func(c *container, _ map[string]string) { c.Address = "172.17.0.5" }), "172.17.0.5 is not in the pool 10.213.0.0/16"},
		"no cali0":                       {alterContainer(func(_ *container, proc map[string]string) { proc["dev"] = "    lo: 0 0\n  eth0: 0 0\n" }), "no interface cali0"},
		"cali0 of another address": {alterContainer(func(c *container, proc map[string]string) {
			proc["fib_trie"] = "     |-- " + c.Address + "9\n"
		}), "does not have the address 10.213.0.1"},
		"no process":                       {alterContainer(func(_ *container, proc map[string]string) { delete(proc, "dev") }), "no such file"},
		"no reply to a ping":               {func(m *machine) { m.docker.noReply["10.213.0.1"] = true }, "cannot ping the probe container"},
		"udevd has not read the link file": {func(m *machine) { m.linkRead = false }, "cannot ping the probe container"},
		"IPv6 enabled":                     {func(m *machine) { m.put("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n") }, "fe80::"},
		"a dead plugin":                    {func(m *machine) { m.setPlugin(false) }, "cannot start the probe container on network firstboot"},
		"name in use in the cluster": {func(m *machine) {
			m.docker.onContainerStart = nil
			m.cluster.foreignNames = map[string]bool{probeContainer: true}
		}, "already exists in network"},
	} {
		t.Run(what, func(t *testing.T) {
			m := withNetwork(t)
			c.arrange(m)
			err := m.apply(t.Context(), "verify")
			if !isError[*engine.Retry](err) || !strings.Contains(err.Error(), c.word) {
				t.Errorf("got %v, want a retry with %q", err, c.word)
			}
			if m.notes.Notes().Probe != (state.Probe{}) {
				t.Error("a failed probe was recorded")
			}
			m.wantClean()
		})
	}
}

// TestProbeContainerStartsBeforeCalicoNodeIsReady: a run waits for both at the same
// time. Without calico-node it waits, and keeps no container.
func TestProbeContainerStartsBeforeCalicoNodeIsReady(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.node.unready = "felix is not ready"
	m.docker.onContainerStart = func(*container, map[string]string) { m.node.unready = "" }
	m.mustRun()
	m.wantStatus(state.Complete)
	m.docker.onContainerStart = nil
	delete(m.docker.containers, "calico-node")
	err := m.apply(t.Context(), "verify")
	if !isError[*engine.Wait](err) || !strings.Contains(err.Error(), "calico-node to be ready") {
		t.Errorf("got %v", err)
	}
	m.wantClean()
	ctx, cancel := etcdContext()
	defer cancel()
	if gone, err := m.cluster.etcd.Delete(ctx, "/calico/resources/v3/projectcalico.org/nodes/host1"); err != nil || gone.Deleted != 1 {
		t.Fatal(gone, err)
	}
	err = m.apply(t.Context(), "verify")
	if !isError[*engine.Wait](err) || !strings.Contains(err.Error(), "to write its Node to etcd") {
		t.Errorf("got %v", err)
	}
	// A Node that cannot be read needs a person: a wait would have no end.
	if _, err := m.cluster.etcd.Put(ctx, "/calico/resources/v3/projectcalico.org/nodes/host1", "no JSON"); err != nil {
		t.Fatal(err)
	}
	err = m.apply(t.Context(), "verify")
	if isError[*engine.Wait](err) || fault.ClassOf(err) != fault.Permanent || !strings.Contains(err.Error(), "Node host1") {
		t.Errorf("got %v, want a permanent error", err)
	}
}

// TestCalicoNodeOnAnotherPortIsReady by its own command alone.
func TestCalicoNodeOnAnotherPortIsReady(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.node.silent = true
	m.mustRun()
	m.wantStatus(state.Complete)
}

func alterContainer(change func(*container, map[string]string)) func(*machine) {
	return func(m *machine) { m.docker.onContainerStart = change }
}

func TestFailedPingHasAHint(t *testing.T) {
	t.Parallel()
	m := withNetwork(t)
	m.linkRead = false
	wantWords(t, engine.Hint(m.apply(t.Context(), "verify")), "Felix", "ip route get 10.213.0.1", "10-calico.link")
}

// TestVerifyRemovesLeftovers of a probe that a power cut interrupted: the
// container, and an endpoint that exists only in the cluster store.
func TestVerifyRemovesLeftovers(t *testing.T) {
	t.Parallel()
	m := withNetwork(t)
	m.docker.containers[probeContainer] = &container{Name: probeContainer, ID: fakeID(probeContainer), Labels: map[string]string{"io.firstboot.probe": "1"}}
	m.cluster.endpoints[probeContainer] = "10.213.0.99"
	m.mustApply("verify")
	m.wantClean()
	m.cluster.endpoints[probeContainer] = "10.213.0.99"
	m.notes.n = state.Notes{}
	m.mustApply("verify")
	m.wantClean()
}

// TestVerifyKeepsAContainerThatIsNotItsOwn, even one with the name of the probe
// container.
func TestVerifyKeepsAContainerThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	m := withNetwork(t)
	m.docker.containers[probeContainer] = &container{Name: probeContainer, ID: fakeID(probeContainer), Running: true}
	err := m.apply(t.Context(), "verify")
	if fault.ClassOf(err) != fault.Permanent {
		t.Fatalf("got %v, want a permanent error", err)
	}
	wantWords(t, err.Error()+engine.Hint(err), "did not create", probeContainer, "docker rename")
	if c := m.docker.containers[probeContainer]; c == nil || !c.Running {
		t.Error("the user's container was removed")
	}
}

// TestInterruptedVerifyCleansUp although its context is canceled.
func TestInterruptedVerifyCleansUp(t *testing.T) {
	t.Parallel()
	m := withNetwork(t)
	ctx, cancel := context.WithCancel(t.Context())
	m.docker.onContainerStart = func(*container, map[string]string) { cancel() }
	if err := m.apply(ctx, "verify"); err == nil {
		t.Error("an interrupted probe passed")
	}
	m.wantClean()
}

// TestVerifyAloneIncludesItsNode: `run --stage verify` waits for calico-node, so the
// stage that starts it must run too.
func TestVerifyAloneIncludesItsNode(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	selected, err := engine.Select(stages.All(m.env()), []string{"verify"})
	if names := engine.Names(selected); err != nil || !slices.Contains(names, "node") || !slices.Contains(names, "pool") {
		t.Errorf("selected %q, %v", names, err)
	}
}

package stages_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

const probeContainer = "firstboot-probe-host1"

// withNetwork is a machine that has everything but the proof.
func withNetwork(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.ready()
	m.cluster.networks = append(m.cluster.networks, dockerNetwork("firstboot", "calico", "10.213.0.0/16"))
	return m
}

// wantClean wants nothing of the test to be left.
func (m *machine) wantClean() {
	m.t.Helper()
	if c := m.docker.containers[probeContainer]; c != nil {
		m.t.Errorf("the container is left: %+v", c)
	}
	if _, left := m.docker.images["firstboot-probe:latest"]; left {
		m.t.Error("the image is left")
	}
	if len(m.cluster.endpoints) > 0 {
		m.t.Errorf("endpoints are left in the cluster: %v", m.cluster.endpoints)
	}
}

// TestANetworkThatDockerDoesNotList: Docker leaves it out while etcd is late, so
// only an etcd that answers can tell that there is none.
func TestANetworkThatDockerDoesNotList(t *testing.T) {
	passed := func(then func(*testing.T, *machine)) func(*testing.T, *machine) {
		return func(t *testing.T, m *machine) {
			m.mustApply("pool", "verify")
			then(t, m)
		}
	}
	onEtcd(t, map[string]func(*testing.T, *machine){
		"for a moment": passed(func(_ *testing.T, m *machine) {
			m.docker.omitNetworks = 2
			m.wantNoDifferences("verify")
			m.docker.omitNetworks = 3
			m.wantDifference("verify", "Docker network firstboot", "missing")
		}),
		"as it is gone": passed(func(_ *testing.T, m *machine) {
			m.cluster.networks = nil
			m.wantDifference("verify", "Docker network firstboot", "missing")
			m.wantPermanentError("verify", "cannot find the Docker network firstboot")
		}),
		"without etcd": passed(func(t *testing.T, m *machine) {
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

func TestVerifyProvesAndNotes(t *testing.T) {
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
		t.Errorf("started %d, noted %+v", started, got)
	}
	m.wantNoDifferences("verify")
	m.wantNoDifferences("verify")
	if started != 1 {
		t.Errorf("a check started a container")
	}
}

func TestVerifyChecksByItsNotes(t *testing.T) {
	m := withNetwork(t)
	m.mustApply("verify")
	m.put("/proc/sys/kernel/random/boot_id", "boot2\n")
	if f := m.check("verify"); !f.OK() || len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "before this boot") {
		t.Errorf("after a reboot: %v, %q", f.Differences, f.Notes)
	}
	m.cluster.networks[0].ID = fakeID("made anew")
	m.wantDifference("verify", "an earlier network firstboot")
	m.stopDocker()
	m.wantDifference("verify", "docker.service", "inactive")
}

// TestProbeTestsAnew, as `firstboot verify` does on a host that passed.
func TestProbeTestsAnew(t *testing.T) {
	m := withNetwork(t)
	m.mustApply("verify")
	before := m.notes.Notes().Probe
	prober := m.stage("verify").(interface{ Probe(context.Context) error })
	if err := prober.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := m.notes.Notes().Probe; !after.Time.After(before.Time) {
		t.Errorf("noted %+v after %+v", after, before)
	}
	m.docker.noAnswer["10.213.0.3"] = true
	ctx, cancel := contextWithin(t, 100*time.Millisecond)
	defer cancel()
	if err := prober.Probe(ctx); err == nil {
		t.Error("a container that does not answer passes")
	}
	m.wantClean()
}

// TestVerifyFindsWhatIsWrong in the container, and removes it all the same.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	for what, c := range map[string]struct {
		arrange func(*machine)
		word    string
	}{
		"it ended at once":               {alterContainer(func(c *container, _ map[string]string) { c.Running, c.Error = false, "exec format error" }), "exec format error"},
		"no address":                     {alterContainer(func(c *container, _ map[string]string) { c.Address = "" }), "no address on network firstboot"},
		"an address outside of the pool": {alterContainer(func(c *container, _ map[string]string) { c.Address = "172.17.0.5" }), "172.17.0.5 is not in the pool 10.213.0.0/16"},
		"no cali0":                       {alterContainer(func(_ *container, proc map[string]string) { proc["dev"] = "    lo: 0 0\n  eth0: 0 0\n" }), "no interface cali0"},
		"cali0 of another address": {alterContainer(func(c *container, proc map[string]string) {
			proc["fib_trie"] = "     |-- " + c.Address + "9\n"
		}), "does not have the address 10.213.0.1"},
		"no process":                       {alterContainer(func(_ *container, proc map[string]string) { delete(proc, "dev") }), "no such file"},
		"no answer to a ping":              {func(m *machine) { m.docker.noAnswer["10.213.0.1"] = true }, "cannot ping the probe container"},
		"udevd has not read the link file": {func(m *machine) { m.linkRead = false }, "cannot ping the probe container"},
		"no Felix":                         {func(m *machine) { delete(m.docker.containers, "calico-node") }, "cannot ping the probe container"},
		"IPv6 on":                          {func(m *machine) { m.put("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n") }, "fe80::"},
		"a dead plugin":                    {func(m *machine) { m.setPlugin(false) }, "cannot start the probe container on network firstboot"},
		"its name taken in the cluster": {func(m *machine) {
			m.docker.onContainerStart = nil
			m.cluster.foreignNames = map[string]bool{probeContainer: true}
		}, "already exists in network"},
	} {
		t.Run(what, func(t *testing.T) {
			m := withNetwork(t)
			c.arrange(m)
			ctx, cancel := contextWithin(t, 200*time.Millisecond)
			defer cancel()
			err := m.apply(ctx, "verify")
			if !isError[*engine.Retry](err) || !strings.Contains(err.Error(), c.word) {
				t.Errorf("got %v, want a retry that says %q", err, c.word)
			}
			if m.notes.Notes().Probe != (state.Probe{}) {
				t.Error("it was noted as passed")
			}
			m.wantClean()
		})
	}
}

func alterContainer(change func(*container, map[string]string)) func(*machine) {
	return func(m *machine) { m.docker.onContainerStart = change }
}

func TestNoPingHasAHint(t *testing.T) {
	m := withNetwork(t)
	m.linkRead = false
	ctx, cancel := contextWithin(t, 50*time.Millisecond)
	defer cancel()
	wantWords(t, engine.Hint(m.apply(ctx, "verify")), "Felix", "ip route get 10.213.0.1", "10-calico.link")
}

// TestVerifyRemovesLeftovers of a test that a power cut ended: the container,
// the image, and the endpoint that only the cluster's store still knows.
func TestVerifyRemovesLeftovers(t *testing.T) {
	m := withNetwork(t)
	m.docker.containers[probeContainer] = &container{Name: probeContainer, ID: fakeID(probeContainer), Labels: map[string]string{"io.firstboot.probe": "1"}}
	m.docker.images["firstboot-probe:latest"] = image{ID: "sha256:old"}
	m.cluster.endpoints[probeContainer] = "10.213.0.99"
	m.mustApply("verify")
	m.wantClean()
	m.cluster.endpoints[probeContainer] = "10.213.0.99"
	m.notes.n = state.Notes{}
	m.mustApply("verify")
	m.wantClean()
}

// TestInterruptedVerifyCleansUp although its context has ended.
func TestInterruptedVerifyCleansUp(t *testing.T) {
	m := withNetwork(t)
	ctx, cancel := context.WithCancel(t.Context())
	m.docker.onContainerStart = func(*container, map[string]string) { cancel() }
	if err := m.apply(ctx, "verify"); err == nil {
		t.Error("an interrupted test passed")
	}
	m.wantClean()
}

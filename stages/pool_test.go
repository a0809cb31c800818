package stages_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// onEtcd runs tests with one real etcd, each on a machine of a new cluster on
// which all stages before pool are done.
func onEtcd(t *testing.T, tests map[string]func(*testing.T, *machine)) {
	t.Helper()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	for _, name := range sorted(tests) {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			m.prepareForPool()
			tests[name](t, m)
		})
	}
}

// prepareForPool applies all stages before pool.
func (m *machine) prepareForPool() {
	m.t.Helper()
	m.mustApply("sysctl", "calicoctl", "config", "docker", "minions", "node")
}

func TestPool(t *testing.T) {
	t.Parallel()
	onEtcd(t, map[string]func(*testing.T, *machine){
		"is created once":                      poolIsCreatedOnce,
		"is created as configured":             poolAsConfigured,
		"missing objects are created":          missingObjects,
		"drift is reported and not changed":    poolDrift,
		"all drift is reported at once":        allDrift,
		"damage by the plugin is repaired":     poolRepairs,
		"stripped fields are not drift":        strippedFields,
		"failing calicoctl is retried":         failingCalicoctl,
		"hanging calicoctl is a wait for etcd": hangingCalicoctl,
		"object created meanwhile is accepted": createdMeanwhile,
		"Profile created meanwhile":            profileCreatedMeanwhile,
		"failing network creation is retried":  failingNetwork,
		"lock of another host is waited for":   lockHeld,
		"stopped Docker is a difference":       poolWithoutDocker,
		"unreachable etcd is waited for":       poolWithoutEtcd,
	})
}

func poolIsCreatedOnce(t *testing.T, m *machine) {
	f := m.check("pool")
	if len(f.Differences) != 3 {
		t.Errorf("got the differences %v, want three", f.Differences)
	}
	m.mustApply("pool")
	var did []string
	for _, step := range m.stepsWith("command ") {
		words := strings.Fields(step)
		did = append(did, strings.Join(words[1:min(4, len(words))], " "))
	}
	// The Profile comes first, or the plugin creates one that drops traffic.
	want := []string{"/usr/bin/calicoctl create --config=/etc/calico/calicoctl.cfg", "docker POST /networks/create", "/usr/bin/calicoctl patch ippool"}
	if d := cmp.Diff(want, did); d != "" {
		t.Error(d)
	}
	network := m.cluster.dockerNetworks()[0]
	wantResource(t, m, "profiles", `{"apiVersion":"projectcalico.org/v3","kind":"Profile","metadata":{"name":"firstboot"},
		"spec":{"egress":[{"action":"Allow"}],"ingress":[{"action":"Allow"}]}}`)
	wantResource(t, m, "ippools", `{"apiVersion":"projectcalico.org/v3","kind":"IPPool",
		"metadata":{"name":"firstboot","annotations":{"org.projectcalico.label.network.ID":"`+network.ID+`"}},
		"spec":{"blockSize":26,"cidr":"10.213.0.0/16","ipipMode":"Never","natOutgoing":true,"nodeSelector":"all()","vxlanMode":"Never"}}`)
	if network.Name != "firstboot" || network.Driver != "calico" || network.IPAM.Driver != "calico-ipam" || !slices.Equal(network.Subnets(), []string{"10.213.0.0/16"}) {
		t.Errorf("the network is %+v", network)
	}
	wantNoLocks(t, m)
	m.mustApply("pool")
	if steps := m.stepsWith(""); len(steps) > 0 {
		t.Errorf("a second Apply took the steps %q", steps)
	}
	second := newHost(t, m.cluster, "host2")
	second.prepareForPool()
	second.wantNoDifferences("pool")
}

func wantResource(t *testing.T, m *machine, kind, want string) {
	t.Helper()
	var w map[string]any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, m.cluster.resource(kind, "firstboot")); d != "" {
		t.Errorf("%s: %s", kind, d)
	}
}

func wantNoLocks(t *testing.T, m *machine) {
	t.Helper()
	ctx, cancel := etcdContext()
	defer cancel()
	got, err := m.cluster.etcd.Get(ctx, "/firstboot/v1/locks/", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) > 0 {
		t.Errorf("locks are left: %v, %v", got.Kvs, err)
	}
}

func poolAsConfigured(t *testing.T, m *machine) {
	m.override("pool: {name: prod, cidr: 10.64.0.0/12, blockSize: 24, natOutgoing: false, ipip: CrossSubnet, network: eru}")
	m.mustApply("pool")
	got := spec(m.cluster.resource("ippools", "prod"))
	want := map[string]any{"blockSize": 24.0, "cidr": "10.64.0.0/12", "ipipMode": "CrossSubnet", "natOutgoing": false, "nodeSelector": "all()", "vxlanMode": "Never"}
	if d := cmp.Diff(want, got); d != "" || m.cluster.dockerNetworks()[0].Name != "eru" || m.cluster.resource("profiles", "prod") == nil {
		t.Errorf("%s, %v", d, m.cluster.dockerNetworks())
	}
}

func missingObjects(t *testing.T, m *machine) {
	m.mustApply("pool")
	m.cluster.delete("profiles")
	m.wantDifference("pool", "Profile firstboot", "missing")
	m.mustApply("pool")
	m.cluster.delete("ippools")
	m.wantDifference("pool", "IPPool firstboot", "missing")
	m.mustApply("pool")
	if created := m.cluster.created; created["profiles"] != 2 || created["ippools"] != 2 || created["network"] != 1 {
		t.Errorf("created %v", created)
	}
}

// drifts are changes that a person may have made on purpose.
func drifts() map[string]struct {
	change func(*machine)
	words  []string
} {
	pool := func(field string, value any) func(*machine) {
		return func(m *machine) {
			p := m.cluster.resource("ippools", "firstboot")
			spec(p)[field] = value
			m.cluster.store("ippools", "firstboot", p)
		}
	}
	type drift = struct {
		change func(*machine)
		words  []string
	}
	return map[string]drift{
		"cidr":        {pool("cidr", "10.99.0.0/16"), []string{"IPPool firstboot cidr", "10.99.0.0/16", "expected 10.213.0.0/16"}},
		"blockSize":   {pool("blockSize", 28), []string{"blockSize", "28", "expected 26"}},
		"natOutgoing": {pool("natOutgoing", false), []string{"natOutgoing", "false"}},
		"ipipMode":    {pool("ipipMode", "Always"), []string{"ipipMode", "Always"}},
		"vxlanMode":   {pool("vxlanMode", "Always"), []string{"vxlanMode", "Always"}},
		"disabled":    {pool("disabled", true), []string{"disabled", "expected enabled"}},
		"a Profile that drops": {func(m *machine) {
			m.cluster.store("profiles", "firstboot", resource("Profile", "firstboot", map[string]any{"egress": []any{map[string]any{"action": "Allow"}}}))
		}, []string{"Profile firstboot", "drops traffic"}},
		"the network's driver": {func(m *machine) { m.cluster.networks[0].Driver = "overlay" }, []string{"driver overlay"}},
		"the network's ipam":   {func(m *machine) { m.cluster.networks[0].IPAM.Driver = "default" }, []string{"ipam driver default"}},
		"the network's subnet": {func(m *machine) { m.cluster.networks[0].IPAM.Config[0].Subnet = "10.1.0.0/16" }, []string{"10.1.0.0/16"}},
	}
}

func poolDrift(t *testing.T, m *machine) {
	for what, d := range drifts() {
		m.cluster.reset()
		m.mustApply("pool")
		d.change(m)
		before := m.cluster.revision()
		m.wantDifference("pool", d.words...)
		if got := m.check("pool").Differences[0]; got.Name != "pool-drift" || got.Fix == "" {
			t.Errorf("%s: %+v", what, got)
		}
		m.wantPermanentError("pool", d.words...)
		if steps := m.changes(); len(steps) > 0 || m.cluster.revision() != before {
			t.Errorf("%s: changed by %q", what, steps)
		}
	}
}

func allDrift(t *testing.T, m *machine) {
	m.mustApply("pool")
	var words []string
	for _, what := range []string{"cidr", "blockSize", "natOutgoing", "the network's driver"} {
		d := drifts()[what]
		d.change(m)
		words = append(words, d.words...)
	}
	m.wantPermanentError("pool", words...)
}

// poolRepairs: one patch repairs spec and annotation together, because a patch of
// the spec alone deletes the annotation.
func poolRepairs(t *testing.T, m *machine) {
	m.mustApply("pool")
	for _, c := range []struct {
		annotations map[string]any
		stripped    bool
		name        string
	}{
		{nil, false, "pool-annotation"},
		{map[string]any{networkAnnotation: fakeID("another network")}, false, "pool-annotation"},
		{map[string]any{networkAnnotation: m.cluster.dockerNetworks()[0].ID}, true, "pool-stripped"},
		{nil, true, "pool-annotation"},
	} {
		p := m.cluster.resource("ippools", "firstboot")
		meta(p)["annotations"] = c.annotations
		if c.stripped {
			delete(spec(p), "vxlanMode")
		}
		m.cluster.store("ippools", "firstboot", p)
		if got := m.check("pool").Differences; len(got) == 0 || got[0].Name != c.name {
			t.Errorf("%+v: found %v", c, got)
		}
		m.mustApply("pool")
		if steps := m.stepsWith("command "); len(steps) != 1 || !strings.Contains(steps[0], "calicoctl patch ippool firstboot") {
			t.Errorf("%+v: repaired by %q", c, steps)
		}
	}
}

// strippedFields: fields that the plugin stripped are not drift.
func strippedFields(t *testing.T, m *machine) {
	m.mustApply("pool")
	p := m.cluster.resource("ippools", "firstboot")
	delete(spec(p), "blockSize")
	delete(spec(p), "ipipMode")
	m.cluster.store("ippools", "firstboot", p)
	m.wantNoDifferences("pool")
}

func failingCalicoctl(t *testing.T, m *machine) {
	fake := m.calicoctl
	m.commandFails = map[string]CommandResult{"calicoctl": {Exit: 1, Stderr: "Failed to create 'Profile' resource: connection is unauthorized"}}
	err := m.apply(t.Context(), "pool")
	if !isError[*engine.Retry](err) || !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("got %v", err)
	}
	wantNoLocks(t, m)
	m.commandFails, m.calicoctl = nil, fake
	m.mustApply("pool")
}

func hangingCalicoctl(t *testing.T, m *machine) {
	m.commandFails = map[string]CommandResult{"calicoctl": {Exit: hangs}}
	err := m.apply(t.Context(), "pool")
	wait, waits := asError[*engine.Wait](err)
	if !waits || !strings.HasPrefix(wait.For, "etcd at ") {
		t.Errorf("got %v", err)
	}
}

// createdMeanwhile: somebody without the lock created the object between the
// check and the creation.
func createdMeanwhile(t *testing.T, m *machine) {
	m.calicoctl = func(c host.Command) CommandResult {
		if c.Args[0] == "create" {
			m.fakeCalicoctl(c)
		}
		return m.fakeCalicoctl(c)
	}
	m.mustApply("pool")
}

// profileCreatedMeanwhile: calicoctl then omits the IPPool of the same call, and no
// network is created without its pool.
func profileCreatedMeanwhile(t *testing.T, m *machine) {
	m.calicoctl = func(c host.Command) CommandResult {
		if c.Args[0] == "create" {
			m.cluster.store("profiles", "firstboot", resource("Profile", "firstboot", map[string]any{
				"egress": []any{map[string]any{"action": "Allow"}}, "ingress": []any{map[string]any{"action": "Allow"}},
			}))
		}
		return m.fakeCalicoctl(c)
	}
	err := m.apply(t.Context(), "pool")
	if !isError[*engine.Retry](err) || !strings.Contains(err.Error(), "IPPool firstboot") || m.cluster.created["network"] != 0 {
		t.Errorf("got %v, created %v", err, m.cluster.created)
	}
	m.mustApply("pool") // the Profile exists now
	m.wantNoDifferences("pool")
}

func failingNetwork(t *testing.T, m *machine) {
	m.setPlugin(false)
	err := m.apply(t.Context(), "pool")
	if !isError[*engine.Retry](err) || !strings.Contains(err.Error(), "cannot create the Docker network firstboot") {
		t.Errorf("got %v", err)
	}
	m.setPlugin(true)
	m.mustApply("pool") // continues from there
	if m.cluster.created["profiles"] != 1 {
		t.Errorf("created %v", m.cluster.created)
	}
}

func lockHeld(t *testing.T, m *machine) {
	c, err := cluster.Dial(cluster.Options{Endpoints: []string{m.cluster.endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lock, err := c.Lock(t.Context(), "pool", "host7", 30*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	reported := make(chan string, 10)
	report := func(message string, _, _ int64) { reported <- message }
	ended := make(chan error)
	go func() { ended <- m.stage("pool").Apply(ctx, report) }()
	if message := <-reported; message != "waiting for host host7 to create the pool" {
		t.Errorf("reported %q", message)
	}
	cancel() // interrupts the wait
	if err := <-ended; err == nil {
		t.Error("got no error from an interrupted wait")
	}
	if m.cluster.created["profiles"] > 0 {
		t.Error("created an object without the lock")
	}
	go func() { ended <- m.stage("pool").Apply(t.Context(), report) }()
	<-reported
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	m.wantNoDifferences("pool")
}

func poolWithoutDocker(t *testing.T, m *machine) {
	m.stopDocker()
	m.wantDifference("pool", units.Docker, "inactive")
	// A Docker that this stage restarted may still start. That costs no attempt.
	if err := m.apply(t.Context(), "pool"); !isError[*engine.Wait](err) || !strings.Contains(err.Error(), "Docker to start") {
		t.Errorf("apply: %v", err)
	}
}

func poolWithoutEtcd(t *testing.T, m *machine) {
	m.override("etcd: {endpoints: [" + noEtcd + "]}")
	ctx, cancel := contextWithin(t, 300*time.Millisecond)
	defer cancel()
	_, err := m.stage("pool").Check(ctx)
	if !isError[*engine.Wait](err) {
		t.Errorf("check: %v", err)
	}
	if err := m.apply(ctx, "pool"); !isError[*engine.Wait](err) {
		t.Errorf("apply: %v", err)
	}
}

// TestTenHostsCreateThePoolOnce: they boot at the same time, with a real etcd.
func TestTenHostsCreateThePoolOnce(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	f := newCluster(t, etcd.Endpoint)
	var hosts []*machine
	for i := range 10 {
		m := newHost(t, f, fmt.Sprintf("host%d", i))
		m.mustApply("sysctl", "config", "docker", "minions")
		m.put("/usr/bin/calicoctl", calicoctlScript("v3.23.0"))
		hosts = append(hosts, m)
	}
	var all sync.WaitGroup
	for _, m := range hosts {
		stage := m.stage("pool")
		all.Go(func() {
			err := engine.Run(t.Context(), []engine.Stage{stage}, engine.Options{MinBackOff: time.Millisecond, MaxBackOff: 10 * time.Millisecond})
			if err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	all.Wait()
	want := map[string]int{"profiles": 1, "ippools": 1, "network": 1, "patch": 1}
	if d := cmp.Diff(want, f.created); d != "" || len(f.networks) != 1 {
		t.Errorf("created %s, networks %v", d, f.networks)
	}
	for _, m := range hosts {
		m.wantNoDifferences("pool")
	}
	wantNoLocks(t, hosts[0])
}

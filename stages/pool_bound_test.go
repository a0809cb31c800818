package stages_test

import (
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// bindPool makes the IPPool of a cluster with an annotation, "" without one.
func (f *fakeCluster) bindPool(id string) {
	pool := resource("IPPool", "firstboot", map[string]any{
		"blockSize": 26, "cidr": "10.213.0.0/16", "ipipMode": "Never", "natOutgoing": true, "nodeSelector": "all()", "vxlanMode": "Never",
	})
	if id != "" {
		meta(pool)["annotations"] = map[string]any{networkAnnotation: id}
	}
	f.store("ippools", "firstboot", pool)
}

// announce records that a host creates the global network of the pool.
func (m *machine) announce(name string) {
	m.t.Helper()
	c, err := cluster.Dial(cluster.Options{Endpoints: []string{m.cluster.endpoint}})
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if err := c.AnnounceNetwork(m.t.Context(), "firstboot", name); err != nil {
		m.t.Fatal(err)
	}
}

// TestPoolOfOthersIsNotBound: a global host refuses a pool that is bound to anything
// but an existing global network, before Docker's network is created.
func TestPoolOfOthersIsNotBound(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	for name, id := range map[string]string{"text of an operator": "shop", "a network that does not exist": fakeID("gone")} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			m.cluster.bindPool(id)
			m.prepareForPool()
			err := m.apply(t.Context(), "pool")
			wantWords(t, err.Error()+engine.Hint(err), id, "not an existing global network", "docker.network: local", "docker network create")
			if posts := m.stepsWith("command docker POST /networks"); len(posts) > 0 || m.cluster.created["network"] > 0 {
				t.Errorf("a network was created: %q", posts)
			}
		})
	}
}

// TestPoolOfLocalHostsIsNotRepaired although a global network has its name.
func TestPoolOfLocalHostsIsNotRepaired(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.prepareForPool()
	m.mustApply("pool")
	m.cluster.bindPool("firstboot-firstboot")
	m.wantDifference("pool", "firstboot-firstboot", "local networks")
	if err := m.apply(t.Context(), "pool"); err == nil || m.cluster.created["patch"] != 1 {
		t.Errorf("got %v, and %d patches", err, m.cluster.created["patch"])
	}
}

// TestAnnouncedNetworkIsCreated: a power cut bound the pool to a network that does
// not exist. The announcement ends when one does.
func TestAnnouncedNetworkIsCreated(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.prepareForPool()
	m.cluster.bindPool(fakeID("lost"))
	m.announce("host7")
	m.mustApply("pool")
	if m.cluster.created["network"] != 1 {
		t.Errorf("created %v", m.cluster.created)
	}
	m.wantNoDifferences("pool")
	m.announce("host8") // and lost power after a person had created the network
	m.wantDifference("pool", "announcement of Docker network firstboot", "left by host host8")
	m.mustApply("pool")
	m.wantNoDifferences("pool")
	ctx, cancel := etcdContext()
	defer cancel()
	if got, err := m.cluster.etcd.Get(ctx, "/firstboot/v1/networks/firstboot"); err != nil || len(got.Kvs) > 0 {
		t.Errorf("the announcement is left: %v, %v", got.Kvs, err)
	}
}

// TestPreflightExaminesTheNetworkOfThePool on a host whose Docker uses the
// cluster-store, and so lists the global networks.
func TestPreflightExaminesTheNetworkOfThePool(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	for name, c := range map[string]struct {
		arrange func(*machine)
		refused bool
	}{
		"exists": {func(m *machine) { m.cluster.bindPool(m.cluster.networks[0].ID) }, false},
		"does not exist": {func(m *machine) {
			m.cluster.bindPool(fakeID("gone"))
			m.cluster.networks = nil
		}, true},
		"exists, and a removed second network took the annotation": {func(m *machine) { m.cluster.bindPool(fakeID("gone")) }, false},
		"is announced": {func(m *machine) {
			m.cluster.bindPool(fakeID("gone"))
			m.cluster.networks = nil
			m.announce("host7")
		}, false},
		"is listed late": {func(m *machine) {
			m.cluster.bindPool(m.cluster.networks[0].ID)
			m.docker.omitNetworks = 2
		}, false},
		"cannot be seen": {func(m *machine) {
			m.cluster.bindPool(fakeID("gone"))
			m.docker.shownStore, m.docker.effectiveStore = "", ""
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			m.prepareForPool()
			m.mustApply("pool")
			c.arrange(m)
			refused, _ := byName(m.check("preflight"))
			if _, found := refused["pool-is-local"]; found != c.refused {
				t.Errorf("found %v", refused)
			}
		})
	}
}

// TestLocalHostDoesNotBindAPool that others made without a network: it prints what a
// person can do, and waits only while another host is about to bind it.
func TestLocalHostDoesNotBindAPool(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "26.1.5+dfsg1")
	m.prepareForPool()
	m.mustApply("adapter")
	m.cluster.bindPool("")
	m.announce("host7")
	err := m.apply(t.Context(), "pool")
	if !isError[*engine.Wait](err) || !strings.Contains(err.Error(), "host host7 to create the global network") {
		t.Errorf("got %v", err)
	}
	m.cluster.bindPool(fakeID("of a power cut")) // by the plugin, before Docker stored the network
	err = m.apply(t.Context(), "pool")
	if !isError[*engine.Wait](err) || !strings.Contains(err.Error(), "host host7 to create the global network") {
		t.Errorf("got %v", err)
	}
	m.cluster.bindPool("")
	m.announce("host1") // before its network became local
	err = m.apply(t.Context(), "pool")
	wantWords(t, err.Error()+engine.Hint(err), "annotation", "firstboot-firstboot", "calicoctl patch ippool", "global network", "run --force")
	if isError[*engine.Wait](err) || m.cluster.created["patch"] != 0 {
		t.Errorf("got %v, and the pool was patched %d times", err, m.cluster.created["patch"])
	}
}

package stages_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// dockerID returns a 64-digit ID as Docker gives an endpoint.
func dockerID(n int) string { return fakeID(fmt.Sprint("endpoint ", n)) }

// addEndpoint stores the WorkloadEndpoint that a host's plugin makes.
func (f *fakeCluster) addEndpoint(host, id string) {
	f.store("workloadendpoints/"+host, endpointName(host, id), resource("WorkloadEndpoint", endpointName(host, id), map[string]any{
		"node": host, "orchestrator": "libnetwork", "workload": "libnetwork", "endpoint": id, "interfaceName": "cali" + id[:11],
	}))
}

// endpoints lists the Docker IDs of a host's endpoints in etcd.
func (f *fakeCluster) endpointsOf(host string) []string {
	var ids []string
	for _, name := range f.names("workloadendpoints/" + host) {
		ids = append(ids, name[strings.LastIndex(name, "-")+1:])
	}
	return ids
}

// link adds an interface of the host.
func (m *machine) link(name string) { m.put("/sys/class/net/"+name+"/ifindex", "7\n") }

func (m *machine) hasLink(name string) bool { return fileExists(m.file("/sys/class/net/" + name)) }

// afterPowerCut returns a complete host that boots after a power cut: the plugin
// runs, and Docker does not yet. Docker had containers with these endpoints.
func afterPowerCut(t *testing.T, ids ...string) *machine {
	t.Helper()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.mustRun()
	m.stopDocker()
	m.link("eth0")
	m.put("/var/lib/docker/network/files/local-kv.db", "\x00binary\xff")
	for i, id := range ids {
		m.cluster.addEndpoint("host1", id)
		m.put(fmt.Sprintf("/var/lib/docker/containers/c%d/config.v2.json", i), `{"NetworkSettings":{"Networks":{"firstboot":{"EndpointID":"`+id+`"}}}}`)
	}
	return m
}

// removeStale does what firstboot wait-plugin does once the plugin answers.
func (m *machine) removeStale() (string, error) {
	m.t.Helper()
	m.clearSteps()
	withStale := func(p app.BuildOptions) (app.StageSet, error) {
		e := environment(p.Host, p.Config, p.Notes, time.Time{})
		return app.StageSet{Stages: stages.All(e), RemoveStale: e.RemoveStale}, nil
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	return app.RemoveStale(ctx, app.Options{Root: m.root, Version: "v1.0.0", Build: withStale, Host: systemOptions(m.t, m.root, m.step)})
}

// wantStale fails the test unless removeStale succeeds and leaves these endpoints.
func (m *machine) wantStale(summary string, left ...string) {
	m.t.Helper()
	got, err := m.removeStale()
	if err != nil || got != summary {
		m.t.Errorf("got %q and %v, want %q", got, err, summary)
	}
	if d := cmp.Diff(left, m.cluster.endpointsOf("host1")); d != "" {
		m.t.Errorf("the endpoints differ: %s", d)
	}
}

func TestStaleEndpointsAreRemovedBeforeDockerStarts(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1), dockerID(2), dockerID(3))
	// Its container still has its interface: only dockerd crashed.
	m.link("cali" + dockerID(2)[:11])
	// Docker's store of sandboxes names an endpoint of a container that was removed.
	m.cluster.addEndpoint("host1", dockerID(4))
	m.put("/var/lib/docker/network/files/local-kv.db", "\x00{\"eid\":\""+dockerID(4)+"\"}\xff")
	m.cluster.addEndpoint("host2", dockerID(5))
	m.wantStale("removed stale endpoints: 3, leftover interfaces: 0", dockerID(2))
	if left := m.cluster.endpointsOf("host2"); !slices.Equal(left, []string{dockerID(5)}) || !m.hasLink("cali"+dockerID(2)[:11]) {
		t.Errorf("another host's endpoints are %q", left)
	}
	m.wantStale("", dockerID(2))
	if calls := m.stepsWith("command plugin"); len(calls) > 0 {
		t.Errorf("the second time called %q", calls)
	}
}

// TestEndpointsOfACloneWithTheSameNameAreKept: they are in the same place, but no
// file of this machine's Docker names them.
func TestEndpointsOfACloneWithTheSameNameAreKept(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1))
	m.cluster.addEndpoint("host1", dockerID(7))
	m.wantStale("removed stale endpoints: 1, leftover interfaces: 0", dockerID(7))
}

// TestStaleEndpointsAreKept on every machine that may not be their owner, and
// while Docker runs.
func TestStaleEndpointsAreKept(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*machine){
		"the clone of a complete host": func(m *machine) { m.put("/etc/machine-id", "bbbb\n") },
		"a marker that names no machine": func(m *machine) {
			m.put(state.MarkerPath, `{"schema": 1, "machine": {"machine_id": ""}}`)
		},
		"no marker": func(m *machine) { m.remove(state.MarkerPath) },
		"a Node with another address, that of a clone": func(m *machine) {
			m.cluster.store("nodes", "host1", resource("Node", "host1", map[string]any{"bgp": map[string]any{"ipv4Address": "10.0.0.77/24"}}))
		},
		"no Node":                func(m *machine) { m.cluster.remove("nodes/host1") },
		"Docker runs":            func(m *machine) { m.boot(units.Docker) },
		"a dockerd without unit": func(m *machine) { m.put("/proc/4711/comm", "dockerd\n") },
	} {
		t.Run(what, func(t *testing.T) {
			m := afterPowerCut(t, dockerID(1))
			m.link("cali" + dockerID(9)[:11])
			change(m)
			m.wantStale("", dockerID(1))
			if calls := m.stepsWith("command plugin"); len(calls) > 0 || !m.hasLink("cali"+dockerID(9)[:11]) {
				t.Errorf("called %q", calls)
			}
		})
	}
}

// TestEndpointsWithoutDockersFilesAreRemoved: no container of this machine is left.
func TestEndpointsWithoutDockersFilesAreRemoved(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1))
	m.remove("/var/lib/docker")
	m.wantStale("removed stale endpoints: 1, leftover interfaces: 0")
}

func TestEndpointsInAnotherDataRootAreFound(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"data-root", "graph"} {
		m := afterPowerCut(t, dockerID(1))
		m.cluster.addEndpoint("host1", dockerID(2))
		m.put(dockerd.ConfigPath, `{"`+key+`": "/srv/docker"}`)
		m.put("/srv/docker/containers/x/config.v2.json", `{"EndpointID":"`+dockerID(2)+`"}`)
		m.wantStale("removed stale endpoints: 1, leftover interfaces: 0", dockerID(1))
	}
}

// TestForeignEndpointsAreKept: other orchestrators' endpoints of this node, and
// values that cannot be decoded.
func TestForeignEndpointsAreKept(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1), dockerID(2))
	pod := resource("WorkloadEndpoint", "host1-k8s-pod-eth0", map[string]any{
		"node": "host1", "orchestrator": "k8s", "endpoint": "eth0", "interfaceName": "cali0123456789a",
	})
	m.cluster.store("workloadendpoints/host1", "host1-k8s-pod-eth0", pod)
	m.cluster.store("workloadendpoints/host1", "host1-damaged", map[string]any{"kind": "Other"})
	m.link("cali" + dockerID(9)[:11])
	_, err := m.removeStale()
	if err == nil || !strings.Contains(err.Error(), "host1-damaged") {
		t.Errorf("got %v, want an error about the damaged value", err)
	}
	if left := m.cluster.names("workloadendpoints/host1"); !slices.Equal(left, []string{"host1-damaged", "host1-k8s-pod-eth0"}) {
		t.Errorf("left are %q", left)
	}
	if !m.hasLink("cali" + dockerID(9)[:11]) {
		t.Error("an interface was removed although not every endpoint is known")
	}
}

func TestLeftOverLinksAreRemoved(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1))
	kept := []string{"eth0", "cali" + dockerID(1)[:11], "cali0", "calico-manual", "temperature", "cali0123456789a"}
	for _, name := range kept {
		m.link(name)
	}
	m.cluster.store("workloadendpoints/shop", "host1-k8s-pod-eth0", resource("WorkloadEndpoint", "host1-k8s-pod-eth0", map[string]any{
		"node": "host1", "orchestrator": "k8s", "endpoint": "eth0", "interfaceName": "cali0123456789a",
	}))
	m.link("cali" + dockerID(9)[:11])
	m.link("temp" + dockerID(9)[:11])
	m.wantStale("removed stale endpoints: 0, leftover interfaces: 2", dockerID(1))
	for _, name := range kept {
		if !m.hasLink(name) {
			t.Errorf("%s was removed", name)
		}
	}
}

// TestEndpointsWhoseInterfaceReachedNoContainerAreRemoved: Docker was killed in Join.
func TestEndpointsWhoseInterfaceReachedNoContainerAreRemoved(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1))
	m.cluster.addEndpoint("host1", dockerID(2))
	m.link("cali" + dockerID(1)[:11])
	m.link("cali" + dockerID(2)[:11])
	m.link("temp" + dockerID(2)[:11])
	m.wantStale("removed stale endpoints: 1, leftover interfaces: 2", dockerID(1))
	if !m.hasLink("cali"+dockerID(1)[:11]) || m.hasLink("cali"+dockerID(2)[:11]) {
		t.Error("the interfaces are wrong")
	}
}

// TestEndpointsThatTheAdapterCreatedAreRemoved, although no file of Docker names
// them: it was killed before it had written one.
func TestEndpointsThatTheAdapterCreatedAreRemoved(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1))
	m.cluster.addEndpoint("host1", dockerID(7))
	m.put("/run/firstboot/adapter/endpoints/"+dockerID(7), "")
	m.wantStale("removed stale endpoints: 2, leftover interfaces: 0")
}

// TestFailedDeletionsAreReported and do not keep the others from being deleted.
func TestFailedDeletionsAreReported(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t, dockerID(1), dockerID(2))
	m.deleteFails = "etcdserver: request timed out"
	_, err := m.removeStale()
	if err == nil {
		t.Fatal("got no error")
	}
	wantWords(t, err.Error(), "cannot remove all stale endpoints", "cannot delete the endpoint "+dockerID(1)[:12], "cannot delete the endpoint "+dockerID(2)[:12], "request timed out")
}

// TestEndpointThatNoLongerExistsIsNoError: another process may delete it first.
func TestEndpointThatNoLongerExistsIsNoError(t *testing.T) {
	t.Parallel()
	m := afterPowerCut(t)
	if err := minions.DeleteEndpoint(t.Context(), m.openHost(), dockerID(1)); err != nil {
		t.Error(err)
	}
}

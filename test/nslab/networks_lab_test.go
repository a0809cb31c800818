//go:build lab

package nslab

import (
	"fmt"
	"testing"

	"github.com/projecteru2/firstboot/test/lab/parts"
)

// localID is the network ID in the annotation of a pool without a global network.
const localID = "firstboot-" + Network

// powerCuts is how many power cuts each cluster gets. The second one finds what the
// recovery from the first one has left.
const powerCuts = 2

// TestNetworks runs every version of Docker with every version of etcd: containers
// on all hosts of a cluster reach each other, also after power cuts of all hosts.
// The cluster with etcd 3.4 is mixed: one of its hosts has a global network.
func TestNetworks(t *testing.T) {
	done := newTable()
	t.Run("clusters", func(t *testing.T) {
		for _, version := range parts.EtcdVersions() {
			t.Run("etcd "+string(version), func(t *testing.T) {
				t.Parallel()
				testCluster(t, version, done)
			})
		}
	})
	if !t.Failed() {
		done.compare(t)
	}
}

func testCluster(t *testing.T, version parts.EtcdVersion, done *table) {
	l := open(t, version)
	if version.SupportsV2() {
		l.AddHost(parts.Docker20, Global)
	}
	for _, docker := range parts.DockerVersions() {
		l.AddHost(docker, Local)
	}
	boot(t, l)
	createNetworks(t, l)
	runContainers(t, l)
	pingAll(t, l)
	done.add(l, ran)
	before := pool(t, l)
	for range powerCuts {
		step(t, "power cut", func() error { return l.Each((*Host).PowerCut) })
		step(t, "start after the power cut", func() error {
			return l.Each(func(h *Host) error { return h.Reboot(t.Context()) })
		})
		pingAll(t, l)
		step(t, "no endpoint without a container", func() error { return l.WaitEndpoints(t.Context()) })
		if after := pool(t, l); after != before {
			t.Errorf("the pool changed by the power cut:\nbefore %s\nafter  %s", before, after)
		}
	}
	step(t, "containers on the old networks", func() error {
		return l.Each(func(h *Host) error { return h.RunContainer(t.Context(), "late-"+h.Name) })
	})
	done.add(l, survived)
}

// createNetworks creates the pool and the network of every host: a global one, if
// there is a host with a global network, whose ID the local ones then use.
func createNetworks(t *testing.T, l *Lab) {
	t.Helper()
	id := localID
	first := l.Hosts[0]
	step(t, "pool", func() error {
		if !first.global {
			return first.CreatePool(t.Context(), id)
		}
		var err error
		id, err = first.CreateGlobalNetwork(t.Context())
		return err
	})
	before := pool(t, l)
	step(t, "local networks", func() error {
		return l.Each(func(h *Host) error {
			if h.global {
				return nil
			}
			return h.CreateLocalNetwork(t.Context(), id)
		})
	})
	if after := pool(t, l); after != before {
		t.Errorf("the pool changed by local networks:\nbefore %s\nafter  %s", before, after)
	}
}

func pool(t *testing.T, l *Lab) string {
	t.Helper()
	text, err := l.PoolObject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestUpgradesInPlace upgrades a host's Docker step by step. Its containers come
// back and reach another host.
func TestUpgradesInPlace(t *testing.T) {
	t.Parallel()
	l := open(t, parts.Etcd35)
	h := l.AddHost(parts.Docker20, Local)
	l.AddHost(parts.Docker26, Local)
	boot(t, l)
	createNetworks(t, l)
	runContainers(t, l)
	pingAll(t, l)
	for _, version := range parts.Docker20.Newer() {
		step(t, fmt.Sprintf("upgrade to Docker %s", version), func() error { return h.Upgrade(t.Context(), version) })
		pingAll(t, l)
		step(t, "no endpoint without a container", func() error { return l.WaitEndpoints(t.Context()) })
	}
}

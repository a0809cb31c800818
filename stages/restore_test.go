package stages_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// TestMissingNetworkIsRestored before Docker starts, from the annotation of the pool.
func TestMissingNetworkIsRestored(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "26.1.5+dfsg1")
	m.mustRun()
	want := m.get(adapter.Path)
	for _, damage := range []func(){
		func() { m.remove(adapter.Path) },
		func() { m.put(adapter.Path, "{") },
	} {
		damage()
		if restored, err := m.env().RestoreNetwork(t.Context()); !restored || err != nil {
			t.Fatalf("restored %v, %v", restored, err)
		}
		if d := cmp.Diff(want, m.get(adapter.Path)); d != "" {
			t.Error(d)
		}
	}
	if restored, err := m.env().RestoreNetwork(t.Context()); restored || err != nil {
		t.Errorf("restored what was not missing: %v, %v", restored, err)
	}
}

// TestContainersOfAMissingNetworkAreNamed if it cannot be restored.
func TestContainersOfAMissingNetworkAreNamed(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "26.1.5+dfsg1")
	m.mustRun()
	m.remove(adapter.Path)
	m.cluster.bindPool("")
	for name, policy := range map[string]string{"shop": "always", "once": "no", "web": "unless-stopped"} {
		m.put("/var/lib/docker/containers/"+name+"/config.v2.json", `{"Name": "/`+name+`", "NetworkSettings": {"Networks": {"firstboot": {}}}}`)
		m.put("/var/lib/docker/containers/"+name+"/hostconfig.json", `{"RestartPolicy": {"Name": "`+policy+`"}}`)
	}
	m.put("/var/lib/docker/containers/other/config.v2.json", `{"Name": "/other", "NetworkSettings": {"Networks": {"bridge": {}}}}`)
	m.put("/var/lib/docker/containers/other/hostconfig.json", `{"RestartPolicy": {"Name": "always"}}`)
	restored, err := m.env().RestoreNetwork(t.Context())
	if restored || err == nil {
		t.Fatalf("restored %v, %v", restored, err)
	}
	wantWords(t, err.Error(), "not bound to a network", "the containers shop, web:", "docker start")
}

// TestCloneKeepsTheNetworkOfItsCluster: no moment of its run lacks the file, without
// which Docker gives up the containers of the image. That of another cluster is
// replaced.
func TestCloneKeepsTheNetworkOfItsCluster(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "26.1.5+dfsg1")
	m.mustRun()
	want := m.get(adapter.Path)
	for machineID, c := range map[string]struct {
		image string
		steps []string // with the file
	}{
		"c10e00000000000000000000000000a1": {want, nil},
		"c10e00000000000000000000000000a2": {strings.Replace(want, "firstboot-firstboot", "firstboot-other", 1), []string{"rename " + adapter.Path}},
	} {
		m.put("/etc/machine-id", machineID+"\n")
		m.put(adapter.Path, c.image)
		run := m.mustRun()
		var steps []string
		for _, step := range run.order {
			if verb, path, _ := strings.Cut(step, " "); path == adapter.Path && verb != "write" && verb != "sync" {
				steps = append(steps, step)
			}
		}
		if !slices.Equal(steps, c.steps) {
			t.Errorf("%s: the steps were %q, want %q", machineID, steps, c.steps)
		}
		if d := cmp.Diff(want, m.get(adapter.Path)); d != "" {
			t.Errorf("%s: the file has changed: %s", machineID, d)
		}
		wantWords(t, m.get(state.MarkerPath), machineID)
		if names, err := m.openHost().ReadDir(state.ForeignDir); err != nil || len(names) == 0 {
			t.Errorf("no state was set aside: %v", err)
		}
	}
}

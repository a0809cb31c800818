//go:build lab

package stages_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/test/etcdtest"
	labparts "github.com/projecteru2/firstboot/test/lab/parts"
)

// realCalicoctl returns the path of the real calicoctl. It is built if the lab's
// cache does not have it.
func realCalicoctl(t *testing.T) string {
	t.Helper()
	p, err := labparts.Build(t.Context(), labparts.Options{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	return p.Calicoctl
}

// useReal makes the machine use the real calicoctl, with the real etcd.
func (m *machine) useReal(path string) {
	m.t.Helper()
	m.override(fmt.Sprintf("calicoctl: {url: %q, sha256: %q}", path, digestOf(path)))
	m.calicoctl = func(c host.Command) CommandResult { return m.runReal(path, c) }
}

// runReal runs the real calicoctl with the machine's files, and counts the objects
// that it creates.
func (m *machine) runReal(path string, c host.Command) CommandResult {
	args := slices.Clone(c.Args)
	for i, a := range args {
		if file, ok := strings.CutPrefix(a, "--config="); ok {
			args[i] = "--config=" + m.file(file)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(string(c.Stdin))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return CommandResult{Exit: cmd.ProcessState.ExitCode(), Stderr: string(out)}
	}
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	switch c.Args[0] {
	case "patch":
		m.cluster.created["patch"]++
	case "create": // it creates all of them, or fails
		var list []struct{ Kind string }
		if err := json.Unmarshal(c.Stdin, &list); err != nil {
			return CommandResult{Exit: 1, Stderr: err.Error()}
		}
		for _, r := range list {
			m.cluster.created[map[string]string{"Profile": "profiles", "IPPool": "ippools"}[r.Kind]]++
		}
	}
	return CommandResult{Stdout: string(out)}
}

// TestRealCalicoctlMakesThePool on a real etcd: the stages read its version, it
// accepts our calicoctl.cfg, and it stores our resources as the checks expect.
func TestRealCalicoctlMakesThePool(t *testing.T) {
	t.Parallel()
	path := realCalicoctl(t)
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.useReal(path)
	m.mustApply("preflight", "sysctl", "calicoctl", "config", "docker", "minions", "node", "pool")
	m.mustApply("pool")
	if steps := m.stepsWith(""); len(steps) > 0 {
		t.Errorf("a second Apply took the steps %q", steps)
	}
	got := spec(m.cluster.resource("ippools", "firstboot"))
	want := map[string]any{"blockSize": 26.0, "cidr": "10.213.0.0/16", "ipipMode": "Never", "natOutgoing": true, "nodeSelector": "all()", "vxlanMode": "Never"}
	maps.DeleteFunc(got, func(key string, _ any) bool { _, ours := want[key]; return !ours })
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the pool differs: %s", d)
	}
	annotations, _ := meta(m.cluster.resource("ippools", "firstboot"))["annotations"].(map[string]any)
	if annotations[networkAnnotation] != m.cluster.networks[0].ID {
		t.Errorf("the pool is bound to %v", annotations)
	}
	// Break the pool as the plugin does.
	p := m.cluster.resource("ippools", "firstboot")
	delete(spec(p), "vxlanMode")
	delete(meta(p), "annotations")
	m.cluster.store("ippools", "firstboot", p)
	m.mustApply("pool")
	// calicoctl refuses another pool with the same addresses.
	m.override("pool: {name: second}")
	if err := m.apply(t.Context(), "pool"); !isError[*engine.Retry](err) || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("for an overlapping pool got %v", err)
	}
}

// TestNodeArgumentsMatchRealDryRun: they are those of the real calicoctl's dry run
// and FELIX_HEALTHENABLED.
func TestNodeArgumentsMatchRealDryRun(t *testing.T) {
	t.Parallel()
	path := realCalicoctl(t)
	m := newMachine(t)
	m.override("etcd: {endpoints: ['http://10.0.0.1:2379']}")
	config := m.file("/calicoctl.cfg")
	text := "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata: {}\nspec: {datastoreType: etcdv3, etcdEndpoints: http://10.0.0.1:2379}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "node", "run", "--init-system", "--dryrun", "--no-default-ippools", "--name=host1",
		"--ip=10.0.0.2", "--as=64512", "--node-image=calico/node:v3.23.0", "--config="+config)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	start := strings.Index(string(out), "docker run ")
	if start < 0 {
		t.Fatalf("no command in: %s", out)
	}
	theirs, _, _ := strings.Cut(string(out)[start+len("docker run "):], "\n")
	ours := calico.Node{Config: m.loadConfig(), Name: "host1", Address: netip.MustParseAddr("10.0.0.2")}.Arguments()
	added := []string{"FELIX_HEALTHENABLED=true"}
	if d := cmp.Diff(pairs(strings.Fields(theirs)), slices.DeleteFunc(pairs(ours), func(p string) bool {
		return slices.ContainsFunc(added, func(a string) bool { return strings.HasSuffix(p, a) })
	})); d != "" {
		t.Errorf("calicoctl's arguments and ours differ: %s\n%s", d, out)
	}
}

// pairs joins options with their values and sorts them.
func pairs(words []string) []string {
	var list []string
	for i := 0; i < len(words); i++ {
		if (words[i] == "-e" || words[i] == "-v") && i+1 < len(words) {
			list = append(list, words[i]+" "+words[i+1])
			i++
			continue
		}
		list = append(list, words[i])
	}
	slices.Sort(list)
	return list
}

// TestTenHostsWithRealCalicoctlMakeThePoolOnce runs them at the same time.
func TestTenHostsWithRealCalicoctlMakeThePoolOnce(t *testing.T) {
	t.Parallel()
	path := realCalicoctl(t)
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	f := newCluster(t, etcd.Endpoint)
	var all sync.WaitGroup
	var hosts []*machine
	for i := range 10 {
		m := newHost(t, f, fmt.Sprintf("host%d", i))
		m.useReal(path)
		m.mustApply("sysctl", "config", "docker", "minions")
		hosts = append(hosts, m)
	}
	for _, m := range hosts {
		stage := m.stage("pool")
		all.Go(func() {
			if err := engine.Run(t.Context(), []engine.Stage{stage}, engine.Options{}); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	all.Wait()
	if d := cmp.Diff(map[string]int{"profiles": 1, "ippools": 1, "network": 1, "patch": 1}, f.created); d != "" || len(f.networks) != 1 {
		t.Errorf("created %s, networks %v", d, f.networks)
	}
	for _, m := range hosts {
		m.wantNoDifferences("pool")
	}
}

// TestNextHostCompletesThePoolWithRealCalicoctl after the first host was killed
// while it created the objects.
func TestNextHostCompletesThePoolWithRealCalicoctl(t *testing.T) {
	t.Parallel()
	path := realCalicoctl(t)
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	holderKilled(t, newCluster(t, etcd.Endpoint), poolStep{"command docker POST /networks/create", 1}, func(m *machine) { m.useReal(path) })
}

// TestRealCalicoctlAfterAnObjectWasMade by somebody without the lock: the objects of
// the same call are created at the next attempt at the latest.
func TestRealCalicoctlAfterAnObjectWasMade(t *testing.T) {
	t.Parallel()
	path := realCalicoctl(t)
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.useReal(path)
	m.calicoctl = func(c host.Command) CommandResult {
		if c.Args[0] == "create" {
			m.cluster.store("profiles", "firstboot", resource("Profile", "firstboot", map[string]any{
				"egress": []any{map[string]any{"action": "Allow"}}, "ingress": []any{map[string]any{"action": "Allow"}},
			}))
		}
		return m.runReal(path, c)
	}
	m.mustApply("sysctl", "calicoctl", "config", "docker", "minions", "node")
	if err := m.apply(t.Context(), "pool"); err != nil && !isError[*engine.Retry](err) {
		t.Fatal(err)
	} else {
		t.Logf("the first attempt: %v", err)
	}
	m.mustApply("pool")
	m.wantNoDifferences("pool")
}

// TestResourcesOfRealCalicoctlAreRead as it stores them, also after it changed
// one.
func TestResourcesOfRealCalicoctlAreRead(t *testing.T) {
	t.Parallel()
	path := realCalicoctl(t)
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.useReal(path)
	m.mustApply("sysctl", "calicoctl", "config", "docker", "minions", "node", "pool")
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"disabled": true}, "metadata": map[string]any{"annotations": map[string]string{networkAnnotation: m.cluster.networks[0].ID}}})
	if err != nil {
		t.Fatal(err)
	}
	ran := m.runReal(path, host.Command{Args: []string{"patch", "ippool", "firstboot", "--config=/etc/calico/calicoctl.cfg", "-p", string(patch)}})
	if ran.Exit != 0 {
		t.Fatalf("%+v", ran)
	}
	m.wantDifference("pool", "IPPool firstboot", "disabled")
	m.wantPermanentError("pool", "disabled")
}

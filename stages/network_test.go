package stages_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/certtest"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// toLocal makes the network of a host local that runs the container shop on the
// global one.
func (m *machine) toLocal() {
	const store = "etcd://10.0.0.9:2379"
	m.docker.shownStore, m.docker.effectiveStore = store, store
	m.cluster.networks = append(m.cluster.networks, dockerNetwork("firstboot", "calico", "10.213.0.0/16"))
	m.cluster.networks[0].Scope = "global"
	m.cluster.networks[0].ID = fakeID("global network")
	m.docker.containers["shop"] = &container{ID: fakeID("shop"), Name: "shop", Network: "firstboot", NetworkID: fakeID("global network"), Running: true}
	m.docker.containers["stopped"] = &container{ID: fakeID("stopped"), Name: "stopped", Network: "firstboot", NetworkID: fakeID("global network")}
	m.docker.containers["created"] = &container{ID: fakeID("created"), Name: "created", Network: "firstboot"}
	m.override("docker: {network: local, clusterStore: '" + store + "'}")
}

// TestNetworkModeIsDecidedByTheMachine covers the rule for docker.network: auto.
func TestNetworkModeIsDecidedByTheMachine(t *testing.T) {
	t.Parallel()
	withV2 := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	withoutV2 := etcdtest.Start(t, etcdtest.Options{})
	const ownStore = `{"cluster-store": "etcd://10.0.0.1:2379"}`
	for name, c := range map[string]struct {
		etcd    *etcdtest.Server
		arrange func(*machine)
		mode    string
		words   []string
	}{
		"Docker 20.10 without a cluster-store": {withV2, func(*machine) {}, config.NetworkLocal, []string{"no cluster-store is configured"}},
		"Docker 26":                            {withV2, func(m *machine) { m.docker.version = "26.1.5+dfsg1" }, config.NetworkLocal, []string{"Docker 26.1.5 has no cluster-store"}},
		"Docker 26 that does not start with its daemon.json": {withV2, func(m *machine) {
			m.put("/etc/docker/daemon.json", ownStore)
			m.docker.version = "26.1.5+dfsg1"
			m.stopDocker()
		}, config.NetworkLocal, []string{"Docker 26.1.5 has no cluster-store"}},
		"daemon.json with a cluster-store":         {withV2, func(m *machine) { m.put("/etc/docker/daemon.json", ownStore) }, config.NetworkGlobal, []string{"etcd://10.0.0.1:2379"}},
		"a cluster-store of Docker's command line": {withV2, func(m *machine) { m.docker.shownStore = "etcd://10.0.0.1:2379" }, config.NetworkGlobal, []string{"etcd://10.0.0.1:2379"}},
		"a cluster-store of the command line of a Docker that does not run": {withV2, func(m *machine) {
			m.put("/etc/default/docker", "# --cluster-store=etcd://10.9.9.9:2379\nDOCKER_OPTS=\"--cluster-store=etcd://10.0.0.1:2379\"\n")
			m.stopDocker()
		}, config.NetworkGlobal, []string{"etcd://10.0.0.1:2379", "--cluster-store"}},
		"a defaults file that Docker's unit does not read": {withV2, func(m *machine) {
			m.put("/etc/default/docker", "DOCKER_OPTS=\"--cluster-store=etcd://10.0.0.1:2379\"\n")
			m.put("/usr/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n")
			m.systemd.reread()
			m.stopDocker()
		}, config.NetworkLocal, []string{"no cluster-store is configured"}},
		"docker.clusterStore":                  {withV2, func(m *machine) { m.override("docker: {clusterStore: 'etcd://10.0.0.1:2379'}") }, config.NetworkGlobal, []string{"docker.clusterStore"}},
		"docker.clusterStore, etcd without v2": {withoutV2, func(m *machine) { m.override("docker: {clusterStore: 'etcd://10.0.0.1:2379'}") }, config.NetworkLocal, []string{"no v2 API"}},
		"docker.network global":                {withV2, func(m *machine) { m.override("docker: {network: global}") }, config.NetworkGlobal, []string{"docker.network"}},
		"docker.network local": {withV2, func(m *machine) {
			m.put("/etc/docker/daemon.json", ownStore)
			m.override("docker: {network: local}")
		}, config.NetworkLocal, []string{"docker.network"}},
		"completed by an earlier firstboot": {withoutV2, func(m *machine) {
			m.put("/etc/docker/daemon.json", ownStore)
			m.put(state.MarkerPath, "{}")
		}, config.NetworkGlobal, []string{"an earlier firstboot"}},
		"completed by an earlier firstboot, plan --force": {withoutV2, func(m *machine) {
			m.put("/etc/docker/daemon.json", ownStore)
			m.put(state.MarkerPath, "{}")
			m.notes.n.Network = state.Network{Again: true}
		}, config.NetworkLocal, []string{"no v2 API"}},
		"recorded": {withV2, func(m *machine) { m.notes.n.Network = state.Network{Mode: "global", Reason: "recorded"} }, config.NetworkGlobal, []string{"recorded"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, c.etcd.Endpoint), "host1")
			m.override("docker: {network: auto}")
			c.arrange(m)
			got := m.env().NetworkMode(t.Context())
			wantWords(t, got, append(c.words, c.mode+" (")...)
		})
	}
}

// TestPreflightRecordsTheNetworkMode: what changes later does not change the mode.
func TestPreflightRecordsTheNetworkMode(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.override("docker: {network: auto}")
	m.net.routes = m.net.routes[1:]
	m.check("preflight")
	if got := m.notes.n.Network; got.Mode != "" {
		t.Errorf("recorded %v although preflight refuses", got)
	}
	m.override("preflight: {ignore: [default-route]}")
	m.check("preflight")
	if got := m.notes.n.Network; got.Mode != config.NetworkLocal || got.Reason == "" {
		t.Fatalf("recorded %v", got)
	}
	m.docker.shownStore = "etcd://10.0.0.1:2379"
	wantWords(t, m.env().NetworkMode(t.Context()), "local (")
}

// TestPreflightChecksTheUserOfTheCertificate uses an etcd with TLS and users.
func TestPreflightChecksTheUserOfTheCertificate(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	server := ca.Issue("server", certtest.Certificate{CN: "server"})
	etcd := etcdtest.Start(t, etcdtest.Options{TLS: true, Args: []string{
		"--cert-file", server.Cert, "--key-file", server.Key, "--client-cert-auth", "--trusted-ca-file", ca.File,
	}})
	m := newHost(t, newCluster(t, noEtcd), "host1")
	mine := ca.Issue("host1", certtest.Certificate{CN: "firstboot", NotAfter: time.Now().Add(10 * 24 * time.Hour)})
	m.override("{etcd: {endpoints: ['" + etcd.Endpoint + "'], caFile: " + ca.File + ", certFile: " + mine.Cert + ", keyFile: " + mine.Key + "}, docker: {network: auto}}")
	refused, warned := byName(m.check("preflight"))
	wantWords(t, warned["etcd-certificate"], mine.Cert)
	if len(refused) != 0 || len(warned) != 1 {
		t.Fatalf("found %v and %v, want a warning of the certificate", refused, warned)
	}
	grant(t, ca, etcd.Endpoint, map[string]clientv3.PermissionType{"/calico/": readWrite, "/firstboot/": clientv3.PermissionType(clientv3.PermRead)})
	refused, _ = byName(m.check("preflight"))
	d := refused["etcd-rights"]
	wantWords(t, d.String()+d.Fix, "user firstboot", "read and write on /barrel/", "write on /firstboot/", "etcdctl")
	if len(refused) != 1 {
		t.Errorf("found %v", refused)
	}
	m.wantRefusal("etcd-rights")
}

const readWrite = clientv3.PermissionType(clientv3.PermReadWrite)

// grant turns on etcd's users and gives the user firstboot these rights.
func grant(t *testing.T, ca *certtest.CA, endpoint string, rights map[string]clientv3.PermissionType) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: rootOf(t, ca)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, name := range []string{"root", "firstboot"} {
		_, err := c.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
		if err == nil {
			_, err = c.RoleAdd(ctx, name)
		}
		if err == nil {
			_, err = c.UserGrantRole(ctx, name, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for prefix, right := range rights {
		if _, err := c.RoleGrantPermission(ctx, "firstboot", prefix, clientv3.GetPrefixRangeEnd(prefix), right); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
}

// rootOf returns the TLS configuration of etcd's user root.
func rootOf(t *testing.T, ca *certtest.CA) *tls.Config {
	t.Helper()
	root := ca.Issue("root", certtest.Certificate{CN: "root"})
	config, err := certificate.Files{CA: ca.File, Cert: root.Cert, Key: root.Key}.Config()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestHostJoinsWithACertificate through an etcd with TLS and users: the host is a
// user by its certificate, and the plugin uses the tunnel.
func TestHostJoinsWithACertificate(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	server := ca.Issue("server", certtest.Certificate{CN: "server"})
	etcd := etcdtest.Start(t, etcdtest.Options{TLS: true, Args: []string{
		"--cert-file", server.Cert, "--key-file", server.Key, "--client-cert-auth", "--trusted-ca-file", ca.File,
	}})
	m := newHost(t, newClusterWithTLS(t, etcd.Endpoint, rootOf(t, ca)), "host1")
	grant(t, ca, etcd.Endpoint, map[string]clientv3.PermissionType{"/calico/": readWrite, "/barrel/": readWrite, "/firstboot/": readWrite})
	mine := ca.Issue("host1", certtest.Certificate{CN: "firstboot"})
	m.override("{etcd: {endpoints: ['" + etcd.Endpoint + "'], caFile: " + ca.File + ", certFile: " + mine.Cert + ", keyFile: " + mine.Key + ", username: firstboot}, docker: {network: auto}}")
	m.mustRun()
	wantWords(t, m.get("/etc/calico/calicoctl.cfg"), etcd.Endpoint, mine.Cert, mine.Key, ca.File)
	wantWords(t, m.get(minions.ConfPath), "ETCD_ENDPOINTS=http://127.0.0.1:23790")
	if u := m.systemd.unit(units.EtcdTunnel); !u.enabled || u.active != "active" {
		t.Errorf("the tunnel is %+v", u)
	}
	before := m.systemd.unit(units.EtcdTunnel).starts
	m.mustRunWith(true)
	if got := m.systemd.unit(units.EtcdTunnel).starts; got != before {
		t.Errorf("run --force with the same configuration restarted the tunnel")
	}
	m.mustApply("minions") // records the origin of the package for this test
	m.wantNoDifferences("minions")
	// Other endpoints or files are in a new effective.yaml.
	starts := m.systemd.unit(units.EtcdTunnel).starts
	m.systemd.startedEarlier(units.EtcdTunnel)
	m.wantDifference("minions", units.EtcdTunnel, "started before", state.EffectivePath)
	m.mustApply("minions")
	m.wantNoDifferences("minions")
	if got := m.systemd.unit(units.EtcdTunnel).starts; got != starts+1 {
		t.Errorf("the tunnel was restarted %d times, want 1", got-starts)
	}
	// That is known also if the clock was set back since the tunnel started.
	starts = m.systemd.unit(units.EtcdTunnel).starts
	m.startedInTheFuture(units.EtcdTunnel)
	m.override("report: {waitingAfter: 5m}")
	m.mustRunWith(true)
	if got := m.systemd.unit(units.EtcdTunnel).starts; got != starts+1 {
		t.Errorf("the tunnel was restarted %d times, want 1", got-starts)
	}
	wantWords(t, m.get(adapter.Path), "firstboot-firstboot")
	m.wantStatus(state.Complete)
}

// localHost makes a host with today's Docker and a local network.
func localHost(t testing.TB, f *fakeCluster, name, docker string) *machine {
	t.Helper()
	m := newHost(t, f, name)
	m.docker.version = docker
	m.override("docker: {network: auto}")
	return m
}

// TestHostsWithLocalNetworksJoin: two hosts join through one pool, which is created
// once and never patched. Each has a Docker network of its own.
func TestHostsWithLocalNetworksJoin(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{}) // without v2
	cluster := newCluster(t, etcd.Endpoint)
	one, two := localHost(t, cluster, "host1", "26.1.5+dfsg1"), localHost(t, cluster, "host2", "29.0.0")
	one.mustRun()
	pool := cluster.resource("ippools", "firstboot")
	if got := meta(pool)["annotations"].(map[string]any)[networkAnnotation]; got != "firstboot-firstboot" {
		t.Errorf("the pool is bound to %v", got)
	}
	two.mustRun()
	if cluster.created["ippools"] != 1 || cluster.created["profiles"] != 1 || cluster.created["patch"] != 0 || cluster.created["network"] != 0 {
		t.Errorf("created %v", cluster.created)
	}
	for _, m := range []*machine{one, two} {
		wantWords(t, m.get(adapter.Path), `"firstboot-firstboot"`, "10.213.0.0/16")
		m.wantStatus(state.Complete)
		if fileExists(m.file("/etc/docker/daemon.json")) {
			t.Error("daemon.json exists")
		}
		if ipv6 := m.get("/proc/sys/net/ipv6/conf/all/disable_ipv6"); ipv6 != "0\n" {
			t.Errorf("disable_ipv6 is %s", ipv6)
		}
		if starts := m.systemd.unit(units.Docker).starts; starts != 1 {
			t.Errorf("Docker was started %d times", starts)
		}
		if again := m.mustRun(); len(again.order) > 0 {
			t.Errorf("the second run took the steps %q", again.order)
		}
	}
}

// TestConfiguredKeyDisablesIPv6OfALocalHost: only the default depends on the network.
func TestConfiguredKeyDisablesIPv6OfALocalHost(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override("{docker: {network: local}, sysctl: {net.ipv6.conf.all.disable_ipv6: 1}}")
	m.mustApply("sysctl")
	for key, want := range map[string]string{"all": "1\n", "default": "0\n"} {
		if got := m.get("/proc/sys/net/ipv6/conf/" + key + "/disable_ipv6"); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// TestIPv6EndpointExcludesAGlobalNetwork whose mode validation does not know.
func TestIPv6EndpointExcludesAGlobalNetwork(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override("{docker: {network: auto}, etcd: {endpoints: ['http://[::1]:1']}}")
	m.notes.n.Network = state.Network{Mode: config.NetworkGlobal, Reason: "recorded"}
	refused, _ := byName(m.check("preflight"))
	d := refused["ipv6-in-use"]
	wantWords(t, d.String()+d.Fix, "http://[::1]:1", "IPv4", "docker.network: local")
}

// TestLocalHostJoinsAClusterWithAGlobalNetwork uses the ID of the global network.
func TestLocalHostJoinsAClusterWithAGlobalNetwork(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	cluster := newCluster(t, etcd.Endpoint)
	old := newHost(t, cluster, "host1")
	old.mustRun()
	revision := cluster.resource("ippools", "firstboot")
	m := localHost(t, cluster, "host2", "29.0.0")
	m.mustRun()
	wantWords(t, m.get(adapter.Path), cluster.networks[0].ID)
	if d := cmp.Diff(revision, cluster.resource("ippools", "firstboot")); d != "" {
		t.Errorf("the pool has changed: %s", d)
	}
	old.wantStatus(state.Complete)
}

// TestDockerIsRestartedIfItKnowsThePluginAsGlobal: Docker keeps a plugin's scope.
func TestDockerIsRestartedIfItKnowsThePluginAsGlobal(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "26.1.5+dfsg1")
	m.docker.pluginScope = "global"
	m.mustRun()
	if starts := m.systemd.unit(units.Docker).starts; starts != 2 {
		t.Errorf("Docker was started %d times, want 2", starts)
	}
}

// TestStoreOfAnotherIsNotRestartedAway: a restart of Docker keeps a cluster-store of
// its command line.
func TestStoreOfAnotherIsNotRestartedAway(t *testing.T) {
	t.Parallel()
	const store = "etcd://10.9.9.9:2379"
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "20.10.24+dfsg1")
	m.override("docker: {network: local}")
	m.mustApply("sysctl", "calicoctl", "config", "docker", "node", "minions", "adapter")
	m.docker.shownStore, m.docker.effectiveStore = store, store
	m.cluster.networks = append(m.cluster.networks, dockerNetwork("firstboot", "calico", "10.213.0.0/16"))
	m.cluster.networks[0].Scope = "global"
	starts := m.systemd.unit(units.Docker).starts
	m.wantPermanentError("pool", store, "which firstboot did not set", "docker.network: global")
	if again := m.systemd.unit(units.Docker).starts; again != starts {
		t.Errorf("Docker was started %d times more", again-starts)
	}
}

// TestRestartsOfDockerAreBounded if an option brings firstboot's own store back.
func TestRestartsOfDockerAreBounded(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "20.10.24+dfsg1")
	const store = "etcd://10.0.0.9:2379"
	m.override("docker: {network: local, clusterStore: '" + store + "'}")
	m.mustApply("sysctl", "calicoctl", "config", "docker", "node", "minions", "adapter")
	pool, starts := m.stage("pool"), m.systemd.unit(units.Docker).starts
	var err error
	for range 10 {
		m.docker.shownStore, m.docker.effectiveStore = store, store
		if err = pool.Apply(t.Context(), func(string, int64, int64) {}); fault.IsPermanent(err) {
			break
		}
	}
	if !fault.IsPermanent(err) {
		t.Fatalf("got %v, want a permanent error", err)
	}
	wantWords(t, err.Error()+engine.Hint(err), "restarted Docker 3 times", store, "systemctl cat docker")
	if again := m.systemd.unit(units.Docker).starts - starts; again != 3 {
		t.Errorf("Docker was restarted %d times", again)
	}
}

// TestGlobalHostBecomesLocal covers run --force with docker.network: local, and a
// Docker that was upgraded and does not start with its daemon.json.
func TestGlobalHostBecomesLocal(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	for name, change := range map[string]func(*machine){
		"docker.network": func(m *machine) { m.override("docker: {network: local}") },
		"Docker 26": func(m *machine) {
			m.stopDocker()
			m.docker.version = "26.1.5+dfsg1"
			m.override("docker: {network: auto}")
			_ = m.systemd.job("start", units.Docker)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			m.mustRun()
			change(m)
			m.wantStatus(state.Drifted)
			m.mustRunWith(true)
			m.wantStatus(state.Complete)
			if text := m.get("/etc/docker/daemon.json"); strings.Contains(text, "cluster-") {
				t.Errorf("daemon.json is %s", text)
			}
			if m.docker.effectiveStore != "" {
				t.Errorf("Docker uses the store %s", m.docker.effectiveStore)
			}
			wantWords(t, m.get(adapter.Path), m.cluster.networks[0].ID)
		})
	}
}

// TestLeaveRemovesTheLocalNetwork and the adapter.
func TestLeaveRemovesTheLocalNetwork(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	m := localHost(t, newCluster(t, etcd.Endpoint), "host1", "26.1.5+dfsg1")
	m.mustRun()
	for _, s := range stages.Leave(m.env(), false) {
		f, err := s.Check(t.Context())
		if err == nil && !f.OK() {
			err = s.Apply(t.Context(), func(string, int64, int64) {})
		}
		if err != nil {
			t.Fatalf("%s: %v", s.Name(), err)
		}
	}
	for _, n := range m.docker.own {
		if n.Driver == "calico" {
			t.Errorf("the network %s is left", n.Name)
		}
	}
	if fileExists(m.file(adapter.Path)) || m.adapterRuns() || m.systemd.unit(units.AdapterService).enabled {
		t.Error("the adapter is left")
	}
	if m.cluster.resource("ippools", "firstboot") == nil {
		t.Error("the pool was removed")
	}
}

// TestLocalHostBecomesGlobal after a person removed its own network: Docker is
// restarted once, because it knows the plugin as local, also if the first try fails.
func TestLocalHostBecomesGlobal(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	shared := newCluster(t, etcd.Endpoint)
	old := newHost(t, shared, "host1")
	old.mustRun()
	for name, arrange := range map[string]func(docker *unit){
		"at once":                  func(*unit) {},
		"the restart is refused":   func(docker *unit) { docker.refuses = 1 },
		"the restart stops Docker": func(docker *unit) { docker.breaks = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, shared, "host-"+strings.ReplaceAll(strings.ToLower(name), " ", "-"))
			m.override("docker: {network: local}")
			m.mustRun()
			m.override("docker: {network: global}")
			refused, _ := byName(m.check("preflight"))
			d := refused["own-network"]
			wantWords(t, d.String()+d.Fix, "this host's own local network", "docker network rm firstboot", "run --force")
			m.docker.removeOwn("calico")
			docker := m.systemd.unit(units.Docker)
			starts := docker.starts
			arrange(docker)
			m.mustRunWith(true)
			if docker.starts != starts+1 {
				t.Errorf("Docker was restarted %d times, want 1", docker.starts-starts)
			}
			if m.adapterRuns() || m.systemd.unit(units.AdapterSocket).enabled {
				t.Error("the adapter is left")
			}
			m.wantStatus(state.Complete)
		})
	}
	old.wantStatus(state.Complete)
	if shared.created["network"] != 1 {
		t.Errorf("created %v", shared.created)
	}
}

// becomesGlobal prepares a complete host with a local network for a global one: its
// own network is removed.
func (m *machine) becomesGlobal() {
	m.t.Helper()
	m.override("docker: {network: local}")
	m.mustRun()
	m.override("docker: {network: global}")
	m.docker.removeOwn("calico")
}

// TestKilledRunDoesNotForgetDockersRestart: the adapter is stopped already, and Docker
// still knows the plugin as local.
func TestKilledRunDoesNotForgetDockersRestart(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	shared := newCluster(t, etcd.Endpoint)
	newHost(t, shared, "host1").mustRun()
	for i, c := range []struct {
		step     string
		cut      bool
		restarts int // of Docker, without those of a power cut
	}{
		{"unit stop firstboot-adapter.service", false, 1},
		{"unit stop firstboot-adapter.socket", false, 1},
		{"unit restart docker.service", false, 1},
		{"unit restart docker.service", true, 0},
	} {
		t.Run(fmt.Sprintf("%s, power cut %v", c.step, c.cut), func(t *testing.T) {
			m := newHost(t, shared, fmt.Sprintf("host-%d", i))
			m.becomesGlobal()
			if !m.runAndKillAt(c.step, 1, true) {
				t.Fatalf("the run did not reach %s", c.step)
			}
			if c.cut {
				m.powerCut()
			}
			docker := m.systemd.unit(units.Docker)
			starts := docker.starts
			m.mustRunWith(true)
			if docker.starts != starts+c.restarts {
				t.Errorf("Docker was restarted %d times, want %d", docker.starts-starts, c.restarts)
			}
			m.wantStatus(state.Complete)
		})
	}
}

// TestPreflightAnnouncesTheRestartForAGlobalNetwork, and which containers it affects.
func TestPreflightAnnouncesTheRestartForAGlobalNetwork(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	shared := newCluster(t, etcd.Endpoint)
	newHost(t, shared, "host1").mustRun()
	m := newHost(t, shared, "host2")
	m.becomesGlobal()
	m.docker.containers["shop"] = &container{ID: fakeID("shop"), Name: "shop", Network: "bridge", NetworkID: "0b", Running: true}
	m.docker.containers["web"] = &container{ID: fakeID("web"), Name: "web", Network: "firstboot", NetworkID: fakeID("own network")}
	refused, warned := byName(m.check("preflight"))
	d := refused["foreign-containers"]
	wantWords(t, d.String()+d.Fix, "scope as local", "runs shop", "which needs a restart", "docker.restart: allow")
	wantWords(t, warned["containers-to-recreate"], "web on another network", "the global network", "create them again")
	if len(refused)+len(warned) != 2 {
		t.Errorf("found %v and %v", refused, warned)
	}
	wantWords(t, fmt.Sprint(m.check("adapter").Differences), "Docker: has the plugin's scope as local, expected restarted")
	m.override("docker: {restart: allow}")
	m.mustRunWith(true)
	delete(m.docker.containers, "web")
	if f := m.check("preflight"); !f.OK() || len(f.Warnings) > 0 {
		t.Errorf("found %v and %q after the move", f.Differences, f.Warnings)
	}
	m.wantNoDifferences("adapter")
}

// TestOwnNetworkIsNotTakenForTheGlobalOne: the pool would be bound to an ID that no
// other host has.
func TestOwnNetworkIsNotTakenForTheGlobalOne(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.prepareForPool()
	own := dockerNetwork("firstboot", "calico", "10.213.0.0/16")
	own.IPAM.Driver, own.Scope = "calico-ipam", "local"
	m.docker.own = append(m.docker.own, own)
	m.cluster.bindPool(fakeID("global network"))
	if err := m.apply(t.Context(), "pool"); err == nil || m.cluster.created["patch"] != 0 {
		t.Errorf("got %v, and the pool was patched %d times", err, m.cluster.created["patch"])
	}
}

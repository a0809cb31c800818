package stages_test

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// withNode returns a machine on which calico-node runs and is ready.
func withNode(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.mustApply("sysctl", "calicoctl", "config", "docker", "node")
	return m
}

func (m *machine) starts() int { return m.systemd.unit(units.CalicoNode).starts }

func TestNodeRunsAsASystemdUnit(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	want := `[Unit]
Description=Calico node (Felix, BIRD, confd)
Documentation=https://docs.tigera.io/calico
After=docker.service network-online.target
Wants=network-online.target
PartOf=docker.service
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=5s
TimeoutStartSec=infinity
TimeoutStopSec=30s
UnsetEnvironment=DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_API_VERSION DOCKER_TLS DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_CONTENT_TRUST DOCKER_DEFAULT_PLATFORM
ExecStartPre=-/usr/bin/docker --config=/var/lib/firstboot/docker rm -f calico-node
ExecStartPre=/usr/bin/docker --config=/var/lib/firstboot/docker image inspect --format={{.Id}} calico/node:v3.23.0
ExecStart=/usr/bin/docker --config=/var/lib/firstboot/docker run --net=host --privileged --name=calico-node --rm` +
		` -e AS=64512 -e CALICO_NETWORKING_BACKEND=bird -e ETCD_DISCOVERY_SRV= -e ETCD_ENDPOINTS=http://127.0.0.1:1` +
		` -e FELIX_HEALTHENABLED=true -e IP=10.0.0.2 -e NODENAME=host1 -e NO_DEFAULT_POOLS=true` +
		` -v /var/log/calico:/var/log/calico -v /var/run/calico:/var/run/calico -v /var/lib/calico:/var/lib/calico` +
		` -v /lib/modules:/lib/modules -v /run:/run calico/node:v3.23.0
ExecStop=-/usr/bin/docker --config=/var/lib/firstboot/docker stop calico-node

[Install]
WantedBy=docker.service
`
	_, got, _ := strings.Cut(m.get(units.CalicoNodePath), "\n[Unit]\n")
	if d := cmp.Diff(want, "[Unit]\n"+withoutComments(got)); d != "" {
		t.Error(d)
	}
	u := m.systemd.unit(units.CalicoNode)
	if u.active != "active" || !u.enabled || u.starts != 1 {
		t.Errorf("%+v", u)
	}
	if c := m.docker.containers["calico-node"]; c == nil || !slices.Contains(c.Env, "IP=10.0.0.2") || c.Image != nodeImage {
		t.Errorf("the container is %+v", c)
	}
}

// TestCorrectNodeIsNotRestarted: a restart interrupts every container's network.
func TestCorrectNodeIsNotRestarted(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.mustApply("node")
	m.mustApply("node")
	if m.starts() != 1 {
		t.Errorf("started %d times", m.starts())
	}
}

func TestNodeFindsAndRepairsDifferences(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change   func(*machine)
		words    []string
		restarts bool
	}{
		"stopped":  {func(m *machine) { _ = m.systemd.job("stop", units.CalicoNode) }, []string{"inactive", "expected active"}, true},
		"disabled": {func(m *machine) { m.systemd.disable(units.CalicoNode) }, []string{"disabled", "expected enabled"}, false},
		"another unit file": {func(m *machine) {
			m.put(units.CalicoNodePath, "[Service]\nExecStart=/usr/bin/docker run calico/node:v3.23.0\n")
		}, []string{units.CalicoNodePath}, true},
		"another unit file, and the clock was set back": {func(m *machine) {
			m.systemd.unit(units.CalicoNode).since = time.Now().Add(time.Hour)
			m.put(units.CalicoNodePath, "[Service]\nExecStart=/usr/bin/docker run calico/node:v3.23.0\n")
		}, []string{units.CalicoNodePath}, true},
		"a drop-in that systemd has not read": {func(m *machine) {
			m.put(units.AdminDir+"/calico-node.service.d/x.conf", "[Service]\nNice=5\n")
		}, []string{"changed on disk"}, false},
		"a container that was started by hand": {func(m *machine) {
			m.startedLongAgo()
			m.docker.containers["calico-node"].Env = []string{"IP=10.0.0.2"}
		}, nil, true},
		"a container of another image": {func(m *machine) {
			m.startedLongAgo()
			m.docker.containers["calico-node"].ImageID = "sha256:2"
		}, []string{"image ", nodeImage}, true},
		"no container": {func(m *machine) {
			m.startedLongAgo()
			delete(m.docker.containers, "calico-node")
		}, []string{"not running"}, true},
		"another address of the host": {func(m *machine) { m.net.addresses[2].Prefix = netip.MustParsePrefix("10.0.0.200/24") }, []string{units.CalicoNodePath}, true},
	} {
		t.Run(what, func(t *testing.T) {
			m := withNode(t)
			c.change(m)
			if c.words != nil {
				m.wantDifference("node", c.words...)
			} else if m.check("node").OK() {
				t.Error("found no difference")
			}
			before := m.starts()
			m.mustApply("node")
			if restarted := m.starts() > before; restarted != c.restarts {
				t.Errorf("restarted is %v, want %v", restarted, c.restarts)
			}
		})
	}
}

// startedLongAgo sets the unit's start to an hour ago: a unit that was just
// started is given time to become ready.
func (m *machine) startedLongAgo() {
	m.systemd.unit(units.CalicoNode).since = time.Now().Add(-time.Hour)
	m.modified(units.CalicoNodePath, time.Now().Add(-2*time.Hour))
}

// TestNodeOlderThanItsUnitFileIsRestarted, even if the container's environment
// shows no difference: the last run may have ended between the write and the
// restart.
func TestNodeOlderThanItsUnitFileIsRestarted(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.systemd.unit(units.CalicoNode).since = time.Now().Add(-time.Minute)
	m.wantDifference("node", "started before "+units.CalicoNodePath+" was written")
	m.mustApply("node")
	if m.starts() != 2 {
		t.Errorf("started %d times", m.starts())
	}
}

// TestFilesFromTheFutureCauseNoRestart: if the clock was set back, files may have
// modification times in the future.
func TestFilesFromTheFutureCauseNoRestart(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.mustApply("minions")
	for _, path := range []string{units.CalicoNodePath, dockerd.ConfigPath, minionsConf} {
		m.modified(path, time.Now().Add(8*time.Hour))
	}
	for _, unit := range []string{units.Docker, units.Minions} {
		if err := m.systemd.job("restart", unit); err != nil {
			t.Fatal(err)
		}
	}
	_ = m.notes.SetNotes(func(n *state.Notes) { *n = state.Notes{Installed: n.Installed} })
	for _, stage := range []string{"docker", "node", "minions"} {
		m.wantNoDifferences(stage)
	}
}

// TestStartingNodeIsNotRestarted: it is given time to become ready.
func TestStartingNodeIsNotRestarted(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.node.unready = "calico/node is not ready: bird is not live"
	m.wantDifference("node", "bird is not live", "expected ready")
	err := m.apply(t.Context(), "node")
	if !isError[*engine.Retry](err) || engine.Hint(err) != "journalctl -u calico-node" || m.starts() != 1 {
		t.Errorf("got %v after %d starts", err, m.starts())
	}
	m.node.unready = ""
	m.mustApply("node")
	if m.starts() != 1 {
		t.Errorf("started %d times", m.starts())
	}
}

// TestStartingNodeWithoutContainerIsNotRestarted: docker run creates the container
// after the unit has become active.
func TestStartingNodeWithoutContainerIsNotRestarted(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	delete(m.docker.containers, "calico-node")
	if err := m.apply(t.Context(), "node"); !isError[*engine.Retry](err) || m.starts() != 1 {
		t.Errorf("got %v after %d starts", err, m.starts())
	}
}

func TestStartingNodeWithAnotherImageIsRestarted(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.docker.containers["calico-node"].ImageID = "sha256:2"
	m.mustApply("node")
	if m.starts() != 2 {
		t.Errorf("started %d times", m.starts())
	}
}

// TestChangedNodeUnitIsReadWhateverTheClock: systemd compares the times of files. It
// must not start calico-node as it was before.
func TestChangedNodeUnitIsReadWhateverTheClock(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.systemd.blind = true
	_ = m.systemd.job("stop", units.CalicoNode)
	m.put(units.CalicoNodePath, strings.Replace(m.get(units.CalicoNodePath), "ExecStart=", "ExecStart=/bin/false ", 1))
	_ = m.systemd.job("daemon-reload", "")
	m.mustApply("node")
	if read := m.systemd.unit(units.CalicoNode).read; strings.Contains(read, "/bin/false") {
		t.Errorf("calico-node was started from its earlier unit:\n%s", read)
	}
}

// TestFailedStageLeavesNoChangeUnread: systemd 255 and later would report that every
// unit must be read again.
func TestFailedStageLeavesNoChangeUnread(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.node.unready, m.node.silent = "felix is not ready", true
	m.mustApply("sysctl", "calicoctl", "config", "docker")
	if err := m.apply(t.Context(), "node"); err == nil || m.systemd.outdated {
		t.Errorf("%v, and systemd has not read the changes: %t", err, m.systemd.outdated)
	}
}

func TestNodeThatStaysUnreadyIsRestarted(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.startedLongAgo()
	m.node.unready = "felix is not ready"
	if err := m.apply(t.Context(), "node"); !isError[*engine.Retry](err) || m.starts() != 2 {
		t.Errorf("got %v after %d starts", err, m.starts())
	}
}

func withoutComments(text string) string {
	return regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(text, "")
}

// TestNodeEnvironmentIsOnlyInAPrivateFile: every user can read a unit's arguments
// with systemctl show, and those of a process with ps.
func TestNodeEnvironmentIsOnlyInAPrivateFile(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const secret = `a b$c%d"e`
	m.override(`node: {environment: {API_TOKEN: "a b$c%d\"e"}}`)
	m.mustApply("sysctl", "calicoctl", "config", "docker")
	for _, d := range m.check("node").Differences {
		if strings.Contains(d.Diff+d.String(), "API_TOKEN") {
			t.Errorf("a difference shows the environment: %+v", d)
		}
	}
	m.mustApply("node")
	for path, text := range m.tree() {
		if strings.Contains(text, "a b$c") && (path != units.CalicoNodeEnv || !strings.HasPrefix(text, "0600 ")) &&
			!strings.HasPrefix(path, config.DropInDir) {
			t.Errorf("%s contains the secret: %s", path, text)
		}
	}
	for _, step := range slices.Concat(m.stepsWith(""), m.commands, execStart(m.get(units.CalicoNodePath))) {
		if strings.Contains(step, "a b$c") || strings.Contains(step, "API_TOKEN") {
			t.Errorf("an argument contains the secret: %s", step)
		}
	}
	env := m.docker.containers["calico-node"].Env
	if !slices.Contains(env, "API_TOKEN="+secret) {
		t.Errorf("the container has %q", env)
	}
	m.docker.containers["calico-node"].Env = nil
	for _, d := range m.check("node").Differences {
		if strings.Contains(d.String(), "a b$c") {
			t.Errorf("a difference shows the secret: %s", d)
		}
	}
}

func TestNodeFollowsItsEnvironment(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.override(`node: {environment: {FELIX_X: "1"}}`)
	m.mustApply("node")
	m.startedLongAgo()
	m.modified(units.CalicoNodeEnv, time.Now().Add(-2*time.Hour))
	m.wantNoDifferences("node")
	m.override(`node: {environment: {FELIX_X: "2"}}`) // the unit file stays the same
	m.wantDifference("node", units.CalicoNodeEnv, "different content")
	before := m.starts()
	m.mustApply("node")
	if env := m.docker.containers["calico-node"].Env; m.starts() != before+1 || !slices.Contains(env, "FELIX_X=2") {
		t.Errorf("%d starts, the container has %q", m.starts()-before, env)
	}
	if err := os.Chmod(m.file(units.CalicoNodeEnv), 0o644); err != nil {
		t.Fatal(err)
	}
	m.wantDifference("node", units.CalicoNodeEnv, "mode 0644")
	m.mustApply("node")
}

// TestUnusedNodeEnvironmentIsRemoved: it may hold secrets.
func TestUnusedNodeEnvironmentIsRemoved(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.put(units.CalicoNodeEnv, "API_TOKEN=old\n")
	m.wantDifference("node", units.CalicoNodeEnv, "present", "expected removed")
	m.mustApply("node")
	if fileExists(m.file(units.CalicoNodeEnv)) {
		t.Error("it was not removed")
	}
}

func TestTooLongNodeEnvironmentIsRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override("node: {environment: {LONG: " + strings.Repeat("x", 64<<10-len("LONG=")) + "}}")
	m.mustApply("config", "docker")
	m.wantPermanentError("node", "node.environment.LONG", "more than 65535 bytes")
}

const (
	whileMissing   = "while a peer is missing, BIRD uses no route to other hosts for up to four minutes after calico-node's start"
	secondPeerDown = "Mesh_10_0_0_5 BGP master start 10:00:05 Connect\n"
)

const onePeerDown = noPeers + `Mesh_10_0_0_3 BGP master up 10:00:05 Established
Mesh_10_0_0_4 BGP master start 10:00:05 Active  Socket: No route to host
`

// TestStalePeerIsAWarning that names the peer's Node: a machine that no longer
// exists must not fail every join.
func TestStalePeerIsAWarning(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.mustApply("sysctl", "calicoctl", "config", "docker", "node")
	m.cluster.store("nodes", "ghost", resource("Node", "ghost", map[string]any{"bgp": map[string]any{"ipv4Address": "10.0.0.4/24"}}))
	m.node.protocols = onePeerDown
	if err := m.apply(t.Context(), "node"); err != nil {
		t.Errorf("with a stale peer, the stage failed: %v", err)
	}
	f := m.check("node")
	if !f.OK() || len(f.Warnings) != 1 {
		t.Fatalf("got differences %v and warnings %q", f.Differences, f.Warnings)
	}
	wantWords(t, f.Warnings[0], "10.0.0.4", "node ghost", "Active", "calicoctl delete node ghost; "+whileMissing)
	m.node.protocols += secondPeerDown
	if f := m.check("node"); len(f.Warnings) != 2 || strings.Count(strings.Join(f.Warnings, "\n"), whileMissing) != 1 {
		t.Errorf("got the warnings %q", f.Warnings)
	}
}

// TestStalePeerIsAWarningWithoutEtcd: the warning then has no Node's name.
func TestStalePeerIsAWarningWithoutEtcd(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.node.protocols = onePeerDown
	ctx, cancel := contextWithin(t, time.Second)
	defer cancel()
	f, err := m.stage("node").Check(ctx)
	if err != nil || len(f.Warnings) != 1 {
		t.Fatalf("%v, %q", err, f.Warnings)
	}
	wantWords(t, f.Warnings[0], "BGP peer 10.0.0.4 is not established", whileMissing)
}

// TestNodeWhoseHealthPortIsSilentBecomesReady: another configuration of Felix may
// have moved it. The command in the container is then run a few times, not in a loop.
func TestNodeWhoseHealthPortIsSilentBecomesReady(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.node.silent = true
	m.mustApply("sysctl", "calicoctl", "config", "docker", "node")
	before := len(m.docker.execs)
	m.node.unready = "felix is not ready"
	if err := m.apply(t.Context(), "node"); !isError[*engine.Retry](err) {
		t.Errorf("got %v", err)
	}
	if n := len(m.docker.execs) - before; n == 0 || n > 8 {
		t.Errorf("ran %d commands in the container while it was not ready", n)
	}
}

// TestConfdThatDoesNotRun: then calico-node's own command decides, which status does
// not run otherwise.
func TestConfdThatDoesNotRun(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	if f := m.check("node"); !f.OK() || len(m.docker.execs) != 0 {
		t.Fatalf("a ready node: %v, %d commands", f.Differences, len(m.docker.execs))
	}
	m.node.setConfd("down, normally up, want up\n")
	if f := m.check("node"); !f.OK() || len(m.docker.execs) != 1 {
		t.Errorf("its command says that it is ready: %v, %d commands", f.Differences, len(m.docker.execs))
	}
	m.node.unready = "confd is not live"
	f := m.check("node")
	if len(f.Differences) != 1 || !strings.Contains(f.Differences[0].Actual, "confd is not live") {
		t.Errorf("got %v", f.Differences)
	}
}

// TestFelixWithoutItsDataPlaneIsNotReady: calico-node's own command would say that it is.
func TestFelixWithoutItsDataPlaneIsNotReady(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	m.node.starting = 1
	f := m.check("node")
	if len(f.Differences) != 1 || !strings.Contains(f.Differences[0].Actual, "has not started its data plane") || len(m.docker.execs) != 0 {
		t.Errorf("got %v, %d commands", f.Differences, len(m.docker.execs))
	}
}

// TestFelixWithAnotherDataPlane: it never lists its own. After a minute calico-node's
// command decides.
func TestFelixWithAnotherDataPlane(t *testing.T) {
	t.Parallel()
	m := withNode(t)
	started := time.Now().Add(-2 * time.Minute)
	m.systemd.unit(units.CalicoNode).since = started
	if err := os.Chtimes(m.file(units.CalicoNodePath), started.Add(-time.Second), started.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	m.node.starting = 1
	if f := m.check("node"); !f.OK() || len(m.docker.execs) != 1 {
		t.Errorf("got %v, %d commands", f.Differences, len(m.docker.execs))
	}
}

// TestNodeWaitsForTheDataPlaneOfFelix, which says before that it is ready.
func TestNodeWaitsForTheDataPlaneOfFelix(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("sysctl", "calicoctl", "config", "docker")
	m.node.starting = 3
	m.mustApply("node")
	if m.node.starting >= 0 {
		t.Error("did not wait for the data plane")
	}
	if n := len(m.docker.execs); n != 0 {
		t.Errorf("%d commands were run in the container", n)
	}
}

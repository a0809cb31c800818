package stages_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// TestPreflight runs the checks with one real etcd, one after the other.
func TestPreflight(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	t.Run("refuses", func(t *testing.T) { testPreflightRefuses(t, etcd) })
	t.Run("accepts", func(t *testing.T) { testPreflightAccepts(t, etcd) })
	t.Run("waits", func(t *testing.T) { testPreflightWaits(t, etcd) })
	t.Run("reports findings while Docker does not answer", func(t *testing.T) { testPreflightWithoutDocker(t, etcd) })
	t.Run("warns of the clock if it is ignored", func(t *testing.T) {
		m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
		m.built = time.Now().Add(time.Hour)
		m.wantDemoted("clock")
	})
}

// refusedCase is a host with exactly one finding.
type refusedCase struct {
	name    string // of the finding
	problem string
	arrange func(*machine)
	warning bool     // the finding does not stop the run
	words   []string // that the finding contains
}

func refusedCases() []refusedCase {
	return slices.Concat(hostCases(), kernelCases(), networkCases(), addressCases(), routeCases(), dockerCases(), clusterCases())
}

// testPreflightRefuses checks of each finding that it has an object, an actual
// value, an expected value and a fix, that Apply refuses, that preflight.ignore
// demotes it, and that nothing is changed.
func testPreflightRefuses(t *testing.T, etcd *etcdtest.Server) {
	for _, c := range refusedCases() {
		t.Run(strings.TrimSpace(c.name+" "+c.problem), func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			c.arrange(m)
			f := m.check("preflight")
			refused, warned := byName(f)
			if len(f.Differences)+len(f.Warnings) != 1 {
				t.Fatalf("want only %s, got %v and %q", c.name, f.Differences, f.Warnings)
			}
			if c.warning {
				wantWords(t, warned[c.name], append(c.words, ", expected ", "; ")...)
				return
			}
			d := refused[c.name]
			if d.Actual == "" || d.Expected == "" || d.Fix == "" || d.Object == "" {
				t.Errorf("a finding needs an object, an actual value, an expected value and a fix: %+v", f.Differences)
			}
			wantWords(t, d.String()+" "+d.Fix, c.words...)
			m.wantRefusal(c.name)
			m.wantDemoted(c.name)
			if !m.dockerRuns() && m.docker.requestsWhileDown > 0 {
				t.Error("Docker was queried and thereby started")
			}
		})
	}
}

// testPreflightAccepts checks that there are no false findings.
func testPreflightAccepts(t *testing.T, etcd *etcdtest.Server) {
	hosts := acceptedHosts()
	maps.Copy(hosts, acceptedAddresses())
	maps.Copy(hosts, acceptedRoutes())
	for name, arrange := range hosts {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			arrange(m)
			f := m.check("preflight")
			if !f.OK() || len(f.Warnings) > 0 {
				t.Errorf("found %v and %q", f.Differences, f.Warnings)
			}
			if m.docker.requestsWhileDown > 0 {
				t.Error("a stopped Docker was queried and thereby started")
			}
		})
	}
}

// testPreflightWaits checks that transient problems are not refused.
func testPreflightWaits(t *testing.T, etcd *etcdtest.Server) {
	port := etcd.Endpoint[strings.LastIndex(etcd.Endpoint, ":")+1:]
	for _, c := range []struct {
		name, waitFor string
		arrange       func(*machine)
	}{
		{"etcd down", "etcd at ", func(m *machine) { m.override("etcd: {endpoints: [" + noEtcd + "]}") }},
		{"no route", "a route to etcd", func(m *machine) { m.net.noRoute = true }},
		{"name not resolved", "a route to etcd", func(m *machine) {
			m.net.unresolved = true
			m.override("etcd: {endpoints: ['http://localhost:" + port + "']}")
		}},
		{"clock not set", "the clock to be set", func(m *machine) { m.built = time.Now().Add(time.Hour) }},
		{"Docker does not answer", "Docker to respond", func(m *machine) { m.docker.unresponsive = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			c.arrange(m)
			ctx, cancel := contextWithin(t, time.Second)
			defer cancel()
			f, err := m.stage("preflight").Check(ctx)
			wait, is := asError[*engine.Wait](err)
			if !is || !strings.HasPrefix(wait.For, c.waitFor) {
				t.Errorf("found %v and %v, want a wait for %s", f.Differences, err, c.waitFor)
			}
			if changes := m.changes(); len(changes) > 0 {
				t.Errorf("changed %q while waiting", changes)
			}
		})
	}
}

// testPreflightWithoutDocker checks that only findings which do not depend on
// Docker are reported while Docker does not answer.
func testPreflightWithoutDocker(t *testing.T, etcd *etcdtest.Server) {
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	joined(m)
	m.docker.unresponsive = true
	m.net.routes = m.net.routes[1:]
	m.net.free["/var/lib/docker"] = 0
	refused, warned := byName(m.checkSoon(t))
	if len(refused) != 1 || refused["default-route"].Fix == "" || len(warned) != 0 {
		t.Errorf("found %v and %v", refused, warned)
	}
	m.override(`docker: {clusterStore: "off"}`) // whether Docker has a store is then unknown
	if refused, warned := byName(m.checkSoon(t)); len(refused) != 1 || len(warned) != 0 {
		t.Errorf("found %v and %v", refused, warned)
	}
}

// TestPreflightReportsEverythingAtOnce also while etcd is down. Otherwise each
// correction costs another boot.
func TestPreflightReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t) // without etcd
	m.put("/proc/sys/kernel/hostname", "Host1\n")
	m.net.routes = m.net.routes[1:]
	m.docker.version = "24.0.7"
	f := m.checkSoon(t)
	refused, _ := byName(f)
	if len(refused) != 3 || refused["host-name"].Fix == "" || refused["default-route"].Fix == "" || refused["docker-version"].Fix == "" {
		t.Errorf("found %v", f.Differences)
	}
}

// TestPreflightWritesNothing includes rpm's database.
func TestPreflightWritesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.net.routes = m.net.routes[1:]
	before := m.tree()
	m.checkSoon(t)
	if d := cmp.Diff(before, m.tree()); d != "" {
		t.Error(d)
	}
}

// TestPreflightChecksEtcd checks what Docker and Calico need of etcd.
func TestPreflightChecksEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{}) // no v2
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	refused, _ := byName(m.check("preflight"))
	wantWords(t, refused["etcd-v2"].String()+refused["etcd-v2"].Fix, "v2 API", "--enable-v2")
	m.override(`docker: {clusterStore: "off"}`)
	m.docker.shownStore = "etcd://elsewhere"
	m.wantNoDifferences("preflight") // without a cluster-store v2 is not needed
	m.override("docker: {clusterStore: auto}")
	m.docker.shownStore = ""
	m.wantRefusal("etcd-v2")
	m.wantDemoted("etcd-v2")
	m.cluster.enableAuth()
	refused, _ = byName(m.check("preflight"))
	if d := refused["etcd-v3"]; d.Actual == "" || d.Expected == "" || d.Fix == "" {
		t.Errorf("an etcd that requires a user: %v", refused)
	}
	m.wantRefusal("etcd-v3")
}

// TestPreflightNamesAreComplete checks that the names of all findings, and no
// others, can be demoted, and that a test produces each of them.
func TestPreflightNamesAreComplete(t *testing.T) {
	used := namesInSource(t)
	tested := map[string]bool{"clock": true, "etcd-v2": true, "etcd-v3": true, "etcd-rights": true, "etcd-certificate": true} // tested separately
	for _, c := range refusedCases() {
		tested[c.name] = true
	}
	for _, name := range config.PreflightNames() {
		if !used[name] {
			t.Errorf("%s is listed, but no check uses it", name)
		}
		if !tested[name] {
			t.Errorf("no test produces %s", name)
		}
		delete(used, name)
	}
	if len(used) > 0 {
		t.Errorf("used by checks, but not listed: %q", sorted(used))
	}
}

// namesInSource returns the names in calls of newFinding and newWarning.
func namesInSource(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("preflight*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			function, ok := call.Fun.(*ast.Ident)
			if !ok || function.Name != "newFinding" && function.Name != "newWarning" {
				return true
			}
			if literal, ok := call.Args[0].(*ast.BasicLit); ok {
				names[strings.Trim(literal.Value, `"`)] = true
			}
			return true
		})
	}
	return names
}

// byName returns the findings by their names, of warnings only the text.
func byName(f engine.CheckResult) (refused map[string]engine.Difference, warned map[string]string) {
	refused, warned = map[string]engine.Difference{}, map[string]string{}
	for _, d := range f.Differences {
		refused[d.Name] = d
	}
	for _, w := range f.Warnings {
		name, text, _ := strings.Cut(w, ": ")
		warned[name] = text
	}
	return refused, warned
}

// checkSoon checks preflight without waiting for etcd as long as a run would.
func (m *machine) checkSoon(t *testing.T) engine.CheckResult {
	t.Helper()
	ctx, cancel := contextWithin(t, time.Second)
	defer cancel()
	f, err := m.stage("preflight").Check(ctx)
	if err != nil {
		t.Fatalf("got a wait instead of findings: %v", err)
	}
	return f
}

// wantRefusal wants Apply to refuse because of exactly these findings, and to
// change nothing.
func (m *machine) wantRefusal(names ...string) {
	m.t.Helper()
	err := m.apply(m.t.Context(), "preflight")
	refusal, is := asError[*engine.Refusal](err)
	if !is {
		m.t.Fatalf("got %v, want a refusal", err)
	}
	var got []string
	for _, d := range refusal.Findings {
		got = append(got, d.Name)
	}
	if !slices.Equal(got, names) {
		m.t.Errorf("refused because of %q, want %q", got, names)
	}
	if changes := m.changes(); len(changes) > 0 {
		m.t.Errorf("a refusal changed something: %q", changes)
	}
}

// wantDemoted wants preflight.ignore to turn the finding into a warning.
func (m *machine) wantDemoted(name string) {
	m.t.Helper()
	m.override("preflight: {ignore: [" + name + "]}")
	f := m.check("preflight")
	if _, warned := byName(f); !f.OK() || len(f.Warnings) != 1 || warned[name] == "" {
		m.t.Errorf("with %s ignored: %v and %q, want one warning", name, f.Differences, f.Warnings)
	}
	if err := m.apply(m.t.Context(), "preflight"); err != nil {
		m.t.Errorf("with %s ignored, apply refuses: %v", name, err)
	}
}

func (m *machine) dockerRuns() bool { return m.systemd.units[units.Docker].active == "active" }

func (m *machine) stopDocker() {
	m.t.Helper()
	if err := m.systemd.job("stop", units.Docker); err != nil {
		m.t.Fatal(err)
	}
}

// joined makes the machine a member of the cluster, with the addresses and
// routes of BIRD and Felix.
func joined(m *machine) {
	m.t.Helper()
	m.mustApply("sysctl", "calicoctl", "config", "docker", "minions", "node", "pool", "verify")
	at := m.net.eth0()
	m.net.listening[netip.AddrPortFrom(at, 179)] = true
	m.net.add("tunl0", "10.213.0.64/32")
	blackhole := newRoute("10.213.0.64/26", "", "", host.ProtocolBIRD)
	blackhole.Type, blackhole.Hops = host.RouteBlackhole, nil
	local := newRoute("10.213.0.64/32", "", "tunl0", host.ProtocolKernel)
	local.Type, local.Table = host.RouteLocal, 255
	m.net.routes = append(m.net.routes, blackhole, local,
		newRoute("10.213.0.128/26", "10.0.0.3", "eth0", host.ProtocolBIRD),
		newRoute("10.213.0.65/32", "", "cali0123", 3),
		newRoute("10.213.0.192/26", "10.0.0.4", "eth0", 80),
	)
	m.clearSteps()
}

package stages_test

import (
	"go/ast"
	"go/parser"
	"go/token"
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

// TestPreflightNamesAreThoseInUse: a name that is not listed could not be
// demoted, and one that is listed and not used would promise something. Each
// is seen to be found by a test.
func TestPreflightNamesAreThoseInUse(t *testing.T) {
	used := namesInSource(t)
	seen := map[string]bool{"clock": true, "etcd-v2": true, "etcd-v3": true} // tests of their own
	for _, w := range wrongs() {
		seen[w.name] = true
	}
	for _, name := range config.PreflightNames() {
		if !used[name] {
			t.Errorf("%s is listed, and no probe finds it", name)
		}
		if !seen[name] {
			t.Errorf("no test finds %s", name)
		}
		delete(used, name)
	}
	if len(used) > 0 {
		t.Errorf("found by probes and not listed: %q", sorted(used))
	}
}

// namesInSource are the names that the probes give to concernOf and warningOf.
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
			called, ok := call.Fun.(*ast.Ident)
			if !ok || called.Name != "concernOf" && called.Name != "warningOf" {
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

// wrongs are all hosts of the table.
func wrongs() []wrong {
	return slices.Concat(wrongHosts(), wrongKernels(), wrongNetworks(), wrongDockers(), wrongClusters())
}

// named is what preflight found under each name, warnings as their text.
func named(f engine.CheckResult) (refused map[string]engine.Difference, warned map[string]string) {
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

// wrong is a host with one thing that preflight does not like.
type wrong struct {
	name    string // of the finding
	when    string
	arrange func(*machine)
	warning bool
	words   []string // that the finding has
}

// TestPreflightFindsWhatIsWrong: each finding alone, with what was seen, what
// was wanted and how to fix it; it refuses; its name demotes it; and nothing
// was changed.
func TestPreflightFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	for _, w := range wrongs() {
		t.Run(w.name+" "+w.when, func(t *testing.T) {
			m := newHost(t, newFabric(t, etcd.Endpoint), "host1")
			w.arrange(m)
			f := m.check("preflight")
			refused, warned := named(f)
			if len(f.Differences)+len(f.Warnings) != 1 {
				t.Fatalf("want this one finding, got %v and %q", f.Differences, f.Warnings)
			}
			if w.warning {
				wantWords(t, warned[w.name], append(w.words, ", expected ", "; ")...)
				return
			}
			d := refused[w.name]
			if d.Actual == "" || d.Expected == "" || d.Fix == "" || d.Object == "" {
				t.Errorf("a finding must say what, seen, wanted and how to fix it: %+v", f.Differences)
			}
			wantWords(t, d.String()+" "+d.Fix, w.words...)
			m.wantRefusal(w.name)
			m.wantDemoted(w.name)
			if !m.dockerRuns() && m.docker.asked > 0 {
				t.Error("Docker was asked and so started")
			}
		})
	}
}

func (m *machine) dockerRuns() bool { return m.systemd.units[units.Docker].active == "active" }

// wantRefusal wants Apply to refuse with exactly these findings, and to change
// nothing.
func (m *machine) wantRefusal(names ...string) {
	m.t.Helper()
	err := m.apply(m.t.Context(), "preflight")
	refusal, is := isAs[*engine.Refusal](err)
	if !is {
		m.t.Fatalf("got %v, want a refusal", err)
	}
	var got []string
	for _, d := range refusal.Findings {
		got = append(got, d.Name)
	}
	if !slices.Equal(got, names) {
		m.t.Errorf("refused for %q, want %q", got, names)
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
	if _, warned := named(f); !f.OK() || len(f.Warnings) != 1 || warned[name] == "" {
		m.t.Errorf("ignored, it gives %v and %q, want one warning", f.Differences, f.Warnings)
	}
	if err := m.apply(m.t.Context(), "preflight"); err != nil {
		m.t.Errorf("ignored, it still refuses: %v", err)
	}
}

func (m *machine) stopDocker() {
	m.t.Helper()
	if err := m.systemd.job("stop", units.Docker); err != nil {
		m.t.Fatal(err)
	}
}

// TestPreflightLikesWhatIsRight: the other side of each finding.
func TestPreflightLikesWhatIsRight(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	for when, arrange := range rightHosts() {
		t.Run(when, func(t *testing.T) {
			m := newHost(t, newFabric(t, etcd.Endpoint), "host1")
			arrange(m)
			f := m.check("preflight")
			if !f.OK() || len(f.Warnings) > 0 {
				t.Errorf("found %v and %q", f.Differences, f.Warnings)
			}
			if m.docker.asked > 0 {
				t.Error("a stopped Docker was asked and so started")
			}
		})
	}
}

// joined makes the machine a member, as a whole run does, and puts on it what
// BIRD and Felix put there.
func joined(m *machine) {
	m.t.Helper()
	m.applies("sysctl", "calicoctl", "config", "docker", "minions", "node", "pool", "verify")
	at := m.net.eth0()
	m.net.listening[netip.AddrPortFrom(at, 179)] = true
	m.net.add("tunl0", "10.213.0.64/32")
	m.net.routes = append(m.net.routes,
		host.Route{Destination: netip.MustParsePrefix("10.213.0.128/26"), Gateway: netip.MustParseAddr("10.0.0.3"), Interface: "eth0", Protocol: host.ProtocolBIRD},
		host.Route{Destination: netip.MustParsePrefix("10.213.0.64/26"), Protocol: host.ProtocolBIRD},
		host.Route{Destination: netip.MustParsePrefix("10.213.0.65/32"), Interface: "cali0123", Protocol: 80},
		host.Route{Destination: netip.MustParsePrefix("10.213.0.192/26"), Gateway: netip.MustParseAddr("10.0.0.4"), Interface: "eth0", Protocol: 80},
	)
	m.forget()
}

// TestPreflightTellsEverythingAtOnce, and what is wrong here also while etcd
// is away: who corrects one thing after the other waits for a boot each time.
func TestPreflightTellsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t) // its etcd is away
	m.put("/proc/sys/kernel/hostname", "Host1\n")
	m.net.routes = m.net.routes[1:]
	m.docker.version = "24.0.7"
	f := m.checkSoon(t)
	refused, _ := named(f)
	if len(refused) != 3 || refused["host-name"].Fix == "" || refused["default-route"].Fix == "" || refused["docker-version"].Fix == "" {
		t.Errorf("found %v", f.Differences)
	}
}

// TestPreflightWritesNothing, rpm's database included.
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

// checkSoon checks preflight without waiting for etcd as long as a run would.
func (m *machine) checkSoon(t *testing.T) engine.CheckResult {
	t.Helper()
	ctx, cancel := contextFor(t, time.Second)
	defer cancel()
	f, err := m.stage("preflight").Check(ctx)
	if err != nil {
		t.Fatalf("what is wrong now waits for later: %v", err)
	}
	return f
}

// TestPreflightWaitsForWhatTimeCures: etcd, names, a route, the clock and a
// Docker that is busy are no reason to refuse.
func TestPreflightWaitsForWhatTimeCures(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	for _, c := range []struct {
		what    string
		arrange func(*machine)
	}{
		{"etcd at ", func(m *machine) { m.override("etcd: {endpoints: [" + noEtcd + "]}") }},
		{"a route to etcd", func(m *machine) { m.net.noRoute = true }},
		{"a route to etcd", func(m *machine) {
			m.net.unresolved = true
			m.override("etcd: {endpoints: ['http://localhost:" + etcd.Endpoint[strings.LastIndex(etcd.Endpoint, ":")+1:] + "']}")
		}},
		{"the clock to be set", func(m *machine) { m.built = time.Now().Add(time.Hour) }},
		{"Docker to answer", func(m *machine) { m.docker.silent = true }},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := newHost(t, newFabric(t, etcd.Endpoint), "host1")
			c.arrange(m)
			ctx, cancel := contextFor(t, time.Second)
			defer cancel()
			f, err := m.stage("preflight").Check(ctx)
			wait, is := isAs[*engine.Wait](err)
			if !is || !strings.HasPrefix(wait.For, c.what) {
				t.Errorf("found %v and %v, want a wait for %s", f.Differences, err, c.what)
			}
			if changes := m.changes(); len(changes) > 0 {
				t.Errorf("a wait changed something: %q", changes)
			}
		})
	}
}

// TestPreflightTellsWhileDockerIsBusy what it can see without Docker, and
// nothing that only Docker could deny.
func TestPreflightTellsWhileDockerIsBusy(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newFabric(t, etcd.Endpoint), "host1")
	joined(m)
	m.docker.silent = true
	m.net.routes = m.net.routes[1:]
	m.net.free["/var/lib/docker"] = 0
	refused, warned := named(m.checkSoon(t))
	if len(refused) != 1 || refused["default-route"].Fix == "" || len(warned) != 0 {
		t.Errorf("found %v and %v", refused, warned)
	}
	m.override(`docker: {clusterStore: "off"}`) // whether it has a store it does not say
	if refused, warned := named(m.checkSoon(t)); len(refused) != 1 || len(warned) != 0 {
		t.Errorf("found %v and %v", refused, warned)
	}
}

// TestIgnoredClockIsAWarning: who says that the clock does not matter does not
// wait for it.
func TestIgnoredClockIsAWarning(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newFabric(t, etcd.Endpoint), "host1")
	m.built = time.Now().Add(time.Hour)
	m.wantDemoted("clock")
}

// TestPreflightAsksTheRealEtcd for what Docker and Calico need of it.
func TestPreflightAsksTheRealEtcd(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, etcdtest.Options{}) // no v2
	m := newHost(t, newFabric(t, etcd.Endpoint), "host1")
	refused, _ := named(m.check("preflight"))
	wantWords(t, refused["etcd-v2"].String()+refused["etcd-v2"].Fix, "v2 API", "--enable-v2")
	m.override(`docker: {clusterStore: "off"}`)
	m.docker.shown = "etcd://elsewhere"
	m.isRight("preflight") // who needs no v2 is not asked for it
	m.override("docker: {clusterStore: auto}")
	m.docker.shown = ""
	m.wantRefusal("etcd-v2")
	m.wantDemoted("etcd-v2")
	m.fabric.enableAuth()
	refused, _ = named(m.check("preflight"))
	if d := refused["etcd-v3"]; d.Actual == "" || d.Expected == "" || d.Fix == "" {
		t.Errorf("an etcd that wants a user gives %v", refused)
	}
	m.wantRefusal("etcd-v3")
}

package stages_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// killed is the exit status of a child process that exits in the middle of a run.
const killed = 99

// TestMain runs the tests. If CRASH_ROOT is set, it runs firstboot on the machine
// with this root instead, and exits before the CRASH_NTHth step that begins with
// the words of CRASH_AT.
func TestMain(m *testing.M) {
	root := os.Getenv("CRASH_ROOT")
	if root == "" {
		os.Exit(m.Run())
	}
	nth, _ := strconv.Atoi(os.Getenv("CRASH_NTH"))
	s := &stepRecorder{root: root, at: os.Getenv("CRASH_AT"), nth: nth}
	client, err := rpc.Dial("unix", filepath.Join(root, fakesSocket))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	force := os.Getenv("CRASH_FORCE") != ""
	os.Exit(runAllStages(context.Background(), root, force, os.Stderr, clientOptions(fakeClient{client, s.step})...))
}

// stepRecorder records the steps of a run. It can exit the process at a step.
type stepRecorder struct {
	root string
	at   string
	nth  int

	mu    sync.Mutex
	seen  map[string]int
	order []string // the labels of all steps
}

// step records a step such as "rename /etc/docker/daemon.json".
func (s *stepRecorder) step(op, target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]int{}
	}
	label := op + " " + strings.ReplaceAll(target, s.root, "")
	s.seen[label]++
	s.order = append(s.order, label)
	if (label == s.at || s.at != "" && strings.HasPrefix(label, s.at+" ")) && s.seen[label] == s.nth {
		os.Exit(killed)
	}
}

// runAllStages does what `firstboot run` does and returns its exit code.
func runAllStages(ctx context.Context, root string, force bool, errs *os.File, o ...host.Option) int {
	return runBuilt(ctx, build, root, force, errs, o...)
}

func runBuilt(ctx context.Context, build app.Build, root string, force bool, errs *os.File, o ...host.Option) int {
	var out bytes.Buffer
	err := app.Run(ctx, app.RunOptions{
		Options: app.Options{Root: root, Version: "v1.0.0", Build: build, Host: o}, Force: force, Out: &out, Err: &out,
		Engine: engine.Options{MinBackOff: time.Millisecond, MaxBackOff: 2 * time.Millisecond, Attempts: 3},
	})
	code := app.ExitCode(err)
	if code != app.ExitDone {
		fmt.Fprintf(errs, "%v\n%s", err, &out)
	}
	return code
}

// build makes the stages as the command firstboot does.
func build(p app.BuildOptions) (app.StageSet, error) {
	e := environment(p.Host, p.Config, p.Notes, time.Time{})
	return app.StageSet{Stages: stages.All(e), Prefetch: e.Prefetch}, nil
}

// mustRun runs firstboot on the machine. The test fails if the run fails.
func (m *machine) mustRun() *stepRecorder { return m.mustRunWith(false) }

func (m *machine) mustRunWith(force bool) *stepRecorder {
	m.t.Helper()
	s := &stepRecorder{root: m.root}
	ctx, cancel := contextWithin(m.t, 20*time.Second) // instead of waiting for each stage's own limit
	defer cancel()
	if code := runAllStages(ctx, m.root, force, os.Stderr, systemOptions(m.t, m.root, s.step)...); code != app.ExitDone {
		m.t.Fatalf("the run ended with %d", code)
	}
	return s
}

// runAndKillAt runs firstboot in a process that exits at a step. It reports
// whether the step was reached: the number of some steps depends on timing.
func (m *machine) runAndKillAt(label string, nth int, force bool) bool {
	m.t.Helper()
	child := m.child("CRASH_AT="+label, "CRASH_NTH="+strconv.Itoa(nth))
	if force {
		child.Env = append(child.Env, "CRASH_FORCE=1")
	}
	var errs bytes.Buffer
	child.Stderr = &errs
	err := child.Run()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && (!failed || exit.ExitCode() != killed) {
		m.t.Fatalf("the run was not killed but ended with %v: %s", err, &errs)
	}
	return failed
}

// child returns a command that runs firstboot on the machine in a new process.
func (m *machine) child(env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), "CRASH_ROOT="+m.root), env...)
	return c
}

// powerCut stops everything that runs, and boots the machine. Settings that last
// until the next boot are lost. Enabled units start, the plugin before Docker.
func (m *machine) powerCut() {
	m.t.Helper()
	for _, unit := range []string{units.CalicoNode, units.Docker, units.AdapterService, units.AdapterSocket, units.Minions, udevd} {
		if u := m.systemd.unit(unit); u.read != "" {
			_ = m.systemd.job("stop", unit)
		}
	}
	for path, text := range bareFiles(m.name) {
		if strings.HasPrefix(path, "/proc/") {
			m.put(path, text)
		}
	}
	m.put("/proc/sys/kernel/random/boot_id", "boot2\n")
	m.remove("/sys/module")
	m.remove("/run/firstboot")
	m.remove("/proc/sys/net/netfilter")
	m.boot(udevd)
	for _, pid := range []string{"1001", "1002"} {
		m.remove("/proc/" + pid) // the probe container's
	}
	m.applyAtBoot("/etc/modules-load.d/firstboot.conf", func(name string) { m.modprobe([]string{name}) })
	m.applyAtBoot("/etc/sysctl.d/99-zz-firstboot.conf", func(line string) {
		key, value, _ := strings.Cut(line, " = ")
		m.put("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), value+"\n")
	})
	_ = m.systemd.job("daemon-reload", "")
	if u := m.systemd.unit(units.Minions); u.enabled && strings.Contains(u.read, "Before=docker.service") {
		m.boot(units.Minions)
	}
	for _, name := range []string{units.AdapterSocket, units.AdapterService} {
		if m.systemd.unit(name).enabled {
			m.boot(name)
		}
	}
	m.boot(units.Docker)
	if m.systemd.unit(units.Minions).enabled {
		m.boot(units.Minions)
	}
	if m.systemd.unit(units.CalicoNode).enabled {
		m.boot(units.CalicoNode)
	}
}

// applyAtBoot calls line for each line of a file that is read at boot.
func (m *machine) applyAtBoot(path string, line func(string)) {
	data, _ := os.ReadFile(m.file(path))
	for l := range strings.Lines(string(data)) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			line(l)
		}
	}
}

// expireLeases ends all leases, as if they had not been renewed in time.
func (f *fakeCluster) expireLeases() {
	ctx, cancel := etcdContext()
	defer cancel()
	leases, err := f.etcd.Leases(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, l := range leases.Leases {
		if _, err := f.etcd.Revoke(ctx, l.ID); err != nil {
			f.t.Fatal(err)
		}
	}
}

// state describes the machine and its cluster, except the files. It contains no
// times and no generated IDs.
func (m *machine) state() map[string]any {
	m.t.Helper()
	got := map[string]any{"store": m.docker.effectiveStore + " " + m.docker.shownStore, "package": m.installed, "plugin": m.conf, "endpoints": len(m.cluster.endpoints)}
	for _, n := range m.docker.own {
		got["own network "+n.Name] = fmt.Sprint(n.Driver, n.Scope, n.IPAM)
	}
	for _, name := range []string{units.Docker, units.Minions, units.CalicoNode, units.AdapterSocket, units.AdapterService} {
		u := m.systemd.unit(name)
		got["unit "+name] = fmt.Sprint(u.active, u.enabled, u.read == m.systemd.onDisk(name))
	}
	got["images"] = sorted(m.docker.images)
	for name, c := range m.docker.containers {
		got["container "+name] = fmt.Sprint(c.Image, c.ImageID, c.Env, c.Running)
	}
	for _, n := range m.cluster.dockerNetworks() {
		name := "network " + n.Name
		for got[name] != nil {
			name += " (duplicate)"
		}
		got[name] = fmt.Sprint(n.Driver, n.IPAM)
	}
	ctx, cancel := etcdContext()
	defer cancel()
	all, err := m.cluster.etcd.Get(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, kv := range all.Kvs {
		text := string(kv.Value)
		for _, n := range m.cluster.dockerNetworks() {
			text = strings.ReplaceAll(text, n.ID, "NETWORK ID")
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		got["etcd "+string(kv.Key)] = value
	}
	return got
}

// files returns the machine's files, except those with times or the boot ID.
func (m *machine) files() map[string]string {
	return m.tree(state.JournalPath, state.MarkerPath, "/run/", "/proc/sys/kernel/random/boot_id")
}

// TestSecondRunChangesNothing also shows that a second run and a status need no
// etcd.
func TestSecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.mustRun()
	etcd.Kill() // a complete host needs no network
	if again := m.mustRun(); len(again.order) > 0 {
		t.Errorf("the second run took the steps %q", again.order)
	}
	etcd.Restart()
	files, kept, starts := m.tree("/run/"), m.state(), m.starts()
	m.wantStatus(state.Complete)
	if d := cmp.Diff(files, m.tree("/run/")) + cmp.Diff(kept, m.state()); d != "" || m.starts() != starts {
		t.Errorf("the status changed something: %s", d)
	}
}

// wantStatus fails the test unless `firstboot status` finds the state want.
func (m *machine) wantStatus(want state.State) {
	m.t.Helper()
	s, err := app.Status(m.t.Context(), app.Options{
		Root: m.root, Version: "v1.0.0", Build: build, Host: systemOptions(m.t, m.root, func(string, string) {}),
	})
	if err != nil || s.State != want {
		m.t.Errorf("the status is %+v, %v, want %s", s, err, want)
	}
}

// stepsToKillAt lists the steps of a complete run, each with its count. Steps that
// are repeated many times (writes of the journal, commands in calico-node's
// container) are listed only twice.
func stepsToKillAt(s *stepRecorder) (labels []string, nth []int) {
	seen := map[string]int{}
	for _, label := range s.order {
		seen[label]++
		repeated := strings.Contains(label, state.Dir) || strings.HasSuffix(label, "/exec")
		if repeated && seen[label] > 2 {
			continue
		}
		labels, nth = append(labels, label), append(nth, seen[label])
	}
	return labels, nth
}

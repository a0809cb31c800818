package stages_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
)

// machine is a bare Debian 12 host with Docker 20.10. Its files are real and are
// below a temporary root. A fakeSystem stands in for its daemons and commands.
// The cluster's etcd, if the test has one, is real.
type machine struct {
	*fakeSystem
	t         testing.TB
	artifacts artifactFiles
	h         *host.Host
	notes     *notes
	built     time.Time

	mu     sync.Mutex
	steps  []string // every change, as "OP TARGET"
	onStep func(op, target string)
}

// noEtcd is an endpoint without an etcd, for tests that do not need one.
const noEtcd = "http://127.0.0.1:1"

// newMachine makes the only host of a cluster without an etcd.
func newMachine(t testing.TB) *machine { return newHost(t, newCluster(t, noEtcd), "host1") }

// newHost makes a host of a cluster.
func newHost(t testing.TB, f *fakeCluster, name string) *machine {
	t.Helper()
	return newHostFrom(t, f, name, makeArtifacts(t))
}

// newHostFrom makes a host that is configured with the given artifacts.
func newHostFrom(t testing.TB, f *fakeCluster, name string, p artifactFiles) *machine {
	t.Helper()
	m := &machine{t: t, artifacts: p, notes: &notes{}}
	m.fakeSystem = newFakeSystem(t, f, name)
	for path, text := range bareFiles(name) {
		m.put(path, text)
	}
	for _, program := range []string{"/usr/sbin/dockerd", "/usr/bin/docker", "/usr/bin/rpm", "/usr/sbin/iptables", "/usr/bin/udevadm"} {
		m.putProgram(program, "#!/bin/sh\n")
	}
	m.putProgram(firstbootPath, "firstboot")
	m.put(config.MainFile, m.artifacts.config(f.endpoint))
	m.start()
	return m
}

// firstbootPath is what the probe container runs. It stands in for the binary.
const firstbootPath = "/usr/bin/firstboot"

const udevd = "systemd-udevd.service"

// bareFiles are the files of a new host that the stages read.
func bareFiles(name string) map[string]string {
	return map[string]string{
		"/etc/machine-id":                              "aaaa\n",
		"/proc/sys/kernel/hostname":                    name + "\n",
		"/etc/hosts":                                   "127.0.0.1 localhost\n",
		"/proc/sys/kernel/random/boot_id":              "boot1\n",
		"/proc/sys/net/ipv4/ip_forward":                "0\n",
		"/proc/sys/net/ipv6/conf/all/disable_ipv6":     "0\n",
		"/proc/sys/net/ipv6/conf/default/disable_ipv6": "0\n",
		"/proc/modules":                                "ip_tables 36864 0 - Live 0x0000000000000000\n",
		"/var/lib/dpkg/status":                         "",
		"/usr/lib/systemd/system/docker.service":       "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n",
		"/usr/lib/systemd/system/" + udevd:             "[Service]\nExecStart=/lib/systemd/systemd-udevd\n",
	}
}

// artifactFiles are the paths of the artifacts.
type artifactFiles struct{ calicoctl, image, rpm string }

func makeArtifacts(t testing.TB) artifactFiles {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return artifactFiles{
		calicoctl: write("calicoctl", calicoctlScript("v3.23.0")),
		image:     write("node.tar", imageArchive(t, "calico/node:v3.23.0")),
		rpm:       write("eru-minions.rpm", minionsRPM(t, "")),
	}
}

// config returns a valid configuration that names the artifacts.
func (p artifactFiles) config(endpoint string) string {
	return fmt.Sprintf(`etcd: {endpoints: [%q]}
calicoctl: {url: %q, sha256: %q}
node: {url: %q, sha256: %q}
minions: {url: %q, sha256: %q}
pool: {cidr: 10.213.0.0/16}
docker: {network: global}
`, endpoint, p.calicoctl, digestOf(p.calicoctl), p.image, digestOf(p.image), p.rpm, digestOf(p.rpm))
}

func digestOf(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// override adds a configuration file that overrides the earlier ones.
func (m *machine) override(text string) {
	m.t.Helper()
	names, err := filepath.Glob(filepath.Join(m.root, "/etc/firstboot/config.d/*.yaml"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.put(fmt.Sprintf("/etc/firstboot/config.d/%02d.yaml", len(names)), text)
}

// loadConfig reads the configuration as a run does.
func (m *machine) loadConfig() *config.Config {
	m.t.Helper()
	loaded, err := config.Load(context.Background(), config.Options{Root: m.root})
	if err != nil {
		m.t.Fatalf("cannot load the configuration: %v", err)
	}
	return loaded.Config
}

// openHost opens the machine so that every change is recorded.
func (m *machine) openHost() *host.Host {
	if m.h == nil {
		m.h = host.New(m.root, systemOptions(m.t, m.root, m.step)...)
	}
	return m.h
}

func (m *machine) step(op, target string) {
	m.mu.Lock()
	m.steps = append(m.steps, op+" "+strings.TrimPrefix(target, m.root))
	on := m.onStep
	m.mu.Unlock()
	if on != nil {
		on(op, target)
	}
}

// stepsWith lists the recorded steps whose text begins with prefix.
func (m *machine) stepsWith(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for _, s := range m.steps {
		if strings.HasPrefix(s, prefix) {
			list = append(list, s)
		}
	}
	return list
}

// changes lists the recorded steps, except commands in the calico-node container,
// which only query its state.
func (m *machine) changes() []string {
	return slices.DeleteFunc(m.stepsWith(""), func(s string) bool {
		return s == "command docker POST /containers/calico-node/exec"
	})
}

func (m *machine) clearSteps() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = nil
}

// env returns the stages' environment with the current configuration.
func (m *machine) env() *stages.Env {
	m.t.Helper()
	return environment(m.openHost(), m.loadConfig(), m.notes, m.built)
}

// environment makes the stages' environment as the command line does.
func environment(h *host.Host, c *config.Config, n stages.Notes, built time.Time) *stages.Env {
	e := &stages.Env{Host: h, Config: c, Notes: n, Self: h.RealPath(firstbootPath), Built: built, Sleep: sleepBriefly}
	if c == nil {
		return e
	}
	e.Store = artifact.NewStore(storeOptions(h))
	return e
}

func storeOptions(h *host.Host) artifact.Options {
	o := artifact.Options{Cache: h.RealPath(stages.CacheDir)}
	for _, dir := range stages.BundleDirs() {
		o.Bundles = append(o.Bundles, h.RealPath(dir))
	}
	return o
}

// sleepBriefly takes the place of a stage's pauses, whatever their length.
func sleepBriefly(ctx context.Context, _ time.Duration) error {
	time.Sleep(time.Millisecond)
	return context.Cause(ctx)
}

// stage returns the machine's stage of that name.
func (m *machine) stage(name string) engine.Stage {
	m.t.Helper()
	s, ok := engine.Find(stages.All(m.env()), name)
	if !ok {
		m.t.Fatalf("no stage %s", name)
	}
	return s
}

// check returns the check result of a stage. The test fails if the check returns
// an error or changes something.
func (m *machine) check(name string) engine.CheckResult {
	m.t.Helper()
	m.clearSteps()
	f, err := m.stage(name).Check(m.t.Context())
	if err != nil {
		m.t.Fatalf("cannot check %s: %v", name, err)
	}
	if changes := m.changes(); len(changes) > 0 {
		m.t.Errorf("the check of %s changed something: %q", name, changes)
	}
	return f
}

// wantNoDifferences fails the test if a stage's check finds a difference.
func (m *machine) wantNoDifferences(name string) {
	m.t.Helper()
	if f := m.check(name); !f.OK() {
		m.t.Errorf("%s has differences: %v", name, f.Differences)
	}
}

// wantDifference fails the test unless a stage's check finds exactly one
// difference, which contains the words.
func (m *machine) wantDifference(name string, words ...string) {
	m.t.Helper()
	f := m.check(name)
	if len(f.Differences) != 1 {
		m.t.Fatalf("%s has %d differences, want one with %q: %v", name, len(f.Differences), words, f.Differences)
	}
	wantWords(m.t, f.Differences[0].String(), words...)
}

func wantWords(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in: %s", w, text)
		}
	}
}

// apply applies a stage once.
func (m *machine) apply(ctx context.Context, name string) error {
	m.t.Helper()
	m.clearSteps()
	return m.stage(name).Apply(ctx, func(string, int64, int64) {})
}

// mustApply applies stages, each with one attempt. The test fails if an attempt
// fails or leaves a difference.
func (m *machine) mustApply(names ...string) {
	m.t.Helper()
	for _, name := range names {
		if err := m.apply(m.t.Context(), name); err != nil {
			m.t.Fatalf("%s: %v", name, err)
		}
		steps := m.stepsWith("")
		m.wantNoDifferences(name)
		m.steps = steps // only those of Apply
	}
}

// wantPermanentError fails the test unless Apply returns an error that is not
// retried, with a hint. Error and hint contain the words.
func (m *machine) wantPermanentError(name string, words ...string) {
	m.t.Helper()
	err := m.apply(m.t.Context(), name)
	if err == nil || isError[*engine.Wait](err) || isError[*engine.Retry](err) {
		m.t.Fatalf("%s: got %v, want a permanent error", name, err)
	}
	if engine.Hint(err) == "" {
		m.t.Errorf("%s: got no hint for: %v", name, err)
	}
	wantWords(m.t, err.Error()+" "+engine.Hint(err), words...)
}

// put writes a file of the machine without recording a step.
func (m *machine) put(path, text string) { putFile(m.t, m.root, path, text, 0o644) }

func (m *machine) putProgram(path, text string) { putFile(m.t, m.root, path, text, 0o755) }

func putFile(t testing.TB, root, path, text string, mode fs.FileMode) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(full, mode); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) get(path string) string {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

func (m *machine) remove(path string) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, path)); err != nil {
		m.t.Fatal(err)
	}
}

// modified sets a file's modification time.
func (m *machine) modified(path string, at time.Time) {
	m.t.Helper()
	if err := os.Chtimes(filepath.Join(m.root, path), at, at); err != nil {
		m.t.Fatal(err)
	}
}

// tree returns every file and symbolic link of the machine with its mode and
// content, except paths that begin with one of ignore.
func (m *machine) tree(ignore ...string) map[string]string {
	m.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, m.root)
		ignored := slices.ContainsFunc(ignore, func(p string) bool { return strings.HasPrefix(name, p) })
		if err != nil || d.IsDir() || ignored || d.Type()&fs.ModeSocket != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			files[name], err = os.Readlink(path)
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = fmt.Sprintf("%04o %s", info.Mode().Perm(), data)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return files
}

// notes keeps the journal's notes in memory.
type notes struct {
	mu sync.Mutex
	n  state.Notes
}

func (n *notes) Notes() state.Notes {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.n
}

func (n *notes) SetNotes(change func(*state.Notes)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.n)
	return nil
}

// isError reports whether err's chain contains an error of type E.
func isError[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

func asError[E error](err error) (E, bool) { return errors.AsType[E](err) }

func contextWithin(t testing.TB, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit < time.Second {
		limit *= slowFactor
	}
	return context.WithTimeout(t.Context(), limit)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// slowFactor lengthens limits below a second. A busy machine needs that time to
// get to the wait that the limit is to end.
const slowFactor = 10

// bundle writes a bundle with all artifacts on the machine.
func (m *machine) bundle() {
	m.t.Helper()
	_, err := artifact.WriteBundle(m.t.Context(), filepath.Join(m.root, stages.BundleDirs()[0]), []artifact.Item{
		{Entry: artifact.Entry{Name: "calicoctl", Version: "v3.23.0"}, Path: m.artifacts.calicoctl},
		{Entry: artifact.Entry{Name: "node-image", Version: "v3.23.0"}, Path: m.artifacts.image},
		{Entry: artifact.Entry{Name: "eru-minions", Version: "1.2.3"}, Path: m.artifacts.rpm},
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

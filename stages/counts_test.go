package stages_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// counts are what a run does that takes time on a slow machine.
type counts struct {
	mu     sync.Mutex
	root   string
	writes map[string]int // synced writes by the path of the file
	hashes map[string]int // by the digest of the file
}

// op counts a file operation. A file is written by renaming a temporary file, and
// /run is in memory.
func (c *counts) op(op host.FileOp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := strings.TrimPrefix(op.To, c.root)
	at := strings.TrimPrefix(op.Path, c.root)
	switch {
	case strings.HasPrefix(at, "/run"), strings.HasPrefix(to, "/run"):
	case op.Kind == host.OpRename && strings.HasPrefix(filepath.Base(at), "."):
		c.writes[to]++
	}
}

// hashing counts the computation of a digest, by the content of the file or by the
// digest in the name of a partial one.
func (c *counts) hashing(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name := strings.TrimSuffix(filepath.Base(path), ".part"); len(name) == 2*sha256.Size {
		c.hashes[name]++
		return
	}
	if digest := digestOf(path); digest != "" {
		c.hashes[digest]++
		return
	}
	c.hashes[digestOf(filepath.Join(c.root, path))]++
}

// countedRun runs firstboot on the machine and counts what it does.
func (m *machine) countedRun() *counts {
	m.t.Helper()
	c := &counts{root: m.root, writes: map[string]int{}, hashes: map[string]int{}}
	ctx, cancel := contextWithin(m.t, 20*time.Second)
	defer cancel()
	o := append(systemOptions(m.t, m.root, func(string, string) {}), host.WithFileOps(c.op), host.WithHashing(c.hashing))
	countingBuild := func(p app.BuildOptions) (app.StageSet, error) {
		e := environment(p.Host, p.Config, p.Notes, time.Time{})
		if p.Config != nil {
			o := storeOptions(p.Host)
			o.Hashing = c.hashing
			e.Store = artifact.NewStore(o)
		}
		return app.StageSet{Stages: stages.All(e), Prefetch: e.Prefetch}, nil
	}
	if code := runBuilt(ctx, countingBuild, m.root, false, os.Stderr, o...); code != app.ExitDone {
		m.t.Fatalf("the run ended with %d", code)
	}
	return c
}

const (
	// maxReloads bounds the reloads of systemd's unit files in a run with a global
	// network: by the RPM's script, after eru-minions is enabled, and, if calico-node
	// is ready before that, after calico-node is enabled.
	maxReloads = 3
	// maxPings bounds the queries of Docker's API version.
	maxPings = 3
	// maxGlobalLists and maxLocalLists bound the queries of all of Docker's networks.
	// Measured: 8 and 15.
	maxGlobalLists, maxLocalLists = 9, 16
)

// maxStateWrites bounds the synced writes of the journal and the manifest in a run.
const maxStateWrites = 8

// TestRunWritesFewSyncedFiles: a slow disk takes 20 to 190 ms for each.
func TestRunWritesFewSyncedFiles(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	for name, prepare := range map[string]func(*machine){"global": func(*machine) {}, "local": toToday} {
		maxLists := map[string]int{"global": maxGlobalLists, "local": maxLocalLists}[name]
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			prepare(m)
			c := m.countedRun()
			if n := c.writes[state.JournalPath] + c.writes[state.ManifestPath]; n == 0 || n > maxStateWrites {
				t.Errorf("%d writes of the journal and %d of the manifest, want at most %d together", c.writes[state.JournalPath], c.writes[state.ManifestPath], maxStateWrites)
			}
			if n := m.docker.lists; n == 0 || n > maxLists {
				t.Errorf("Docker's networks were listed %d times, want at most %d", n, maxLists)
			}
			t.Logf("%d lists of Docker's networks", m.docker.lists)
			t.Logf("synced writes: %d of the journal, %d of the manifest", c.writes[state.JournalPath], c.writes[state.ManifestPath])
			delete(c.writes, state.JournalPath)
			delete(c.writes, state.ManifestPath)
			for path, n := range c.writes {
				if n != 1 {
					t.Errorf("%s was written %d times", path, n)
				}
			}
			if len(c.writes) < 10 || c.writes[state.MarkerPath] != 1 {
				t.Errorf("counted only the writes %v", c.writes)
			}
		})
	}
}

// countCommands counts the commands of the machine that contain all the words.
func (m *machine) countCommands(words ...string) int {
	m.fakeSystem.mu.Lock()
	defer m.fakeSystem.mu.Unlock()
	n := 0
	for _, c := range m.commands {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(c, word) }) {
			n++
		}
	}
	return n
}

// TestRunReadsEachArtifactOnce, and tries calicoctl once. That holds for artifacts
// from a URL, the cache and a bundle. Only a local file that was hashed while it was
// copied into the cache is copied again without reading its digest.
func TestRunReadsEachArtifactOnce(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	for name, prepare := range map[string]func(*machine){
		"from a URL": func(*machine) {},
		"pinned, in a bundle": func(m *machine) {
			m.bundle()
			m.override(`{calicoctl: {url: ""}, node: {url: ""}, minions: {url: ""}}`)
		},
		"pinned by the bundle": func(m *machine) {
			m.bundle()
			m.override(`{calicoctl: {url: "", sha256: ""}, node: {url: "", sha256: ""}, minions: {url: "", sha256: ""}}`)
		},
		"installed already": func(m *machine) { m.putProgram(calico.CtlPath, calicoctlScript("v3.23.0")) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
			prepare(m)
			c := m.countedRun()
			t.Logf("%d commands, %d reloads of systemd, %d commands in calico-node's container", len(m.commands), m.systemd.reloads, len(m.docker.execs))
			for _, path := range []string{m.artifacts.calicoctl, m.artifacts.image, m.artifacts.rpm} {
				if n := c.hashes[digestOf(path)]; n != 1 {
					t.Errorf("%s was hashed %d times", path, n)
				}
			}
			for command, most := range map[string]int{
				"calicoctl.firstboot version": 1, "calicoctl version": 1, "rpm -V": 1, "rpm -U": 1, "rpm --eval": 1, "rpm -qp": 0, "dockerd --version": 1,
				"calicoctl create": 1,
			} {
				if n := m.countCommands(command); n > most {
					t.Errorf("%s was run %d times", command, n)
				}
			}
			if n := len(m.docker.execs); n != 0 {
				t.Errorf("%d commands were run in calico-node's container", n)
			}
			if n := m.countCommands("rpm -V", "--nofiledigest"); n != 1 {
				t.Errorf("the package was compared %d times without digests, after its installation", n)
			}
			if m.systemd.outdated {
				t.Error("systemd has not read which units are enabled")
			}
			// Stages that begin at the same time may each query the API version.
			if n := m.systemd.reloads; n < 1 || n > maxReloads {
				t.Errorf("systemd was reloaded %d times, want at most %d", n, maxReloads)
			}
			if n := m.docker.pings; n < 1 || n > maxPings {
				t.Errorf("Docker's API version was queried %d times, want at most %d", n, maxPings)
			}
			if n := m.countCommands("calicoctl", " version "); n != 1 {
				t.Errorf("calicoctl was tried %d times", n)
			}
		})
	}
}

// comparesDigests counts how often rpm read the plugin's files.
func (m *machine) comparesDigests() int {
	return m.countCommands("rpm -V") - m.countCommands("rpm -V", "--nofiledigest")
}

// TestStatusReadsNoUnchangedCalicoctl, no unchanged file of eru-minions, and runs no
// command in a container. verify reads them again, and so does status if a file was
// written again.
func TestStatusReadsNoUnchangedCalicoctl(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.mustRun()
	hashed := 0
	o := app.Options{
		Root: m.root, Version: "v1.0.0", Build: build,
		Host: append(systemOptions(t, m.root, func(string, string) {}), host.WithHashing(func(string) { hashed++ })),
	}
	status := func(when string, want int) {
		t.Helper()
		hashed = 0
		s, err := app.Status(t.Context(), o)
		if err != nil || s.State != state.Complete || hashed != want {
			t.Errorf("%s: %d files were read, want %d (%s, %v)", when, hashed, want, s.State, err)
		}
	}
	status("after the run", 0)
	before := m.countCommands("rpm -V")
	status("again", 0)
	if n := m.countCommands("rpm -V") - before; n == 0 || n > 2 { // by preflight and by the stage
		t.Errorf("rpm -V was run %d times", n)
	}
	if n := m.comparesDigests(); n != 0 {
		t.Errorf("rpm read the unchanged files of eru-minions %d times", n)
	}
	if n := m.countCommands("calicoctl version"); n != 0 {
		t.Errorf("calicoctl was tried %d times", n)
	}
	if n := len(m.docker.execs); n != 0 {
		t.Errorf("%d commands were run in calico-node's container", n)
	}
	m.putProgram(calico.CtlPath, m.get(calico.CtlPath))
	status("after the same file was written again", 1)
	hashed = 0
	if _, err := app.Verify(t.Context(), o); err != nil || hashed != 1 {
		t.Errorf("verify read %d files, %v", hashed, err)
	}
	if n := m.comparesDigests(); n == 0 {
		t.Error("verify did not read the files of eru-minions")
	}
	m.putProgram(calico.CtlPath, strings.Replace(m.get(calico.CtlPath), "v3", "v4", 1))
	if s, err := app.Status(t.Context(), o); err != nil || s.State != state.Drifted {
		t.Errorf("a replaced calicoctl: %s, %v", s.State, err)
	}
}

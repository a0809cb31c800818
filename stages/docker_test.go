package stages_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

const (
	ownStore   = "etcd://127.0.0.1:1" // from noEtcd
	otherStore = "etcd://10.0.0.9:2379"
	nodeImage  = "calico/node:v3.23.0"
)

// TestFirstStoreNeedsNoRestart: a reload puts it into effect, and containers keep
// running.
func TestFirstStoreNeedsNoRestart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.docker.containers["shop"] = &container{Name: "shop", Running: true}
	m.mustApply("config", "docker")
	if jobs := m.stepsWith("unit "); !slices.Equal(jobs, []string{"unit reload docker.service"}) {
		t.Errorf("systemd jobs are %q, want a reload only", jobs)
	}
	if m.docker.effectiveStore != ownStore || !m.docker.containers["shop"].Running {
		t.Errorf("store %q, containers %+v", m.docker.effectiveStore, m.docker.containers)
	}
	m.mustApply("docker")
	if steps := m.stepsWith(""); len(steps) > 0 {
		t.Errorf("a second Apply took the steps %q", steps)
	}
	if err := m.systemd.job("restart", units.Docker); err != nil {
		t.Fatal(err)
	}
	m.wantNoDifferences("docker") // Docker started after the file was written
}

// TestInterruptedCheckReportsNoDifference: otherwise an interrupted run would
// start to change a correct Docker.
func TestInterruptedCheckReportsNoDifference(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config", "docker")
	ctx, cancel := context.WithCancel(t.Context())
	m.docker.onInfo = cancel
	f, err := m.stage("docker").Check(ctx)
	if !errors.Is(err, context.Canceled) || !f.OK() {
		t.Errorf("%v, %v", f.Differences, err)
	}
}

// withOtherStore returns a machine whose daemon.json is right, but whose Docker
// still uses another store.
func withOtherStore(t *testing.T) *machine {
	m := newMachine(t)
	m.put(dockerd.ConfigPath, `{"cluster-store": "`+otherStore+`"}`)
	if err := m.systemd.job("restart", units.Docker); err != nil {
		t.Fatal(err)
	}
	m.systemd.startedEarlier(units.Docker)
	m.hasVerifiedImage()
	m.docker.containers["shop"] = &container{Name: "shop", Running: true}
	m.mustApply("config")
	return m
}

// hasVerifiedImage makes Docker have the pinned image, recorded by an earlier run.
func (m *machine) hasVerifiedImage() {
	m.docker.images[nodeImage] = image{ID: "sha256:1"}
	m.notes.n.Installed = map[string]state.Installed{"node-image": {Artifact: digestOf(m.artifacts.image), ID: "sha256:1"}}
}

func TestRestartForAnotherStoreMustBeAllowed(t *testing.T) {
	t.Parallel()
	m := withOtherStore(t)
	m.wantDifference("docker", otherStore, ownStore)
	m.wantPermanentError("docker", "shop", "docker.restart: allow")
	if jobs := m.stepsWith("unit "); len(jobs) > 0 || !m.docker.containers["shop"].Running {
		t.Errorf("the user's container was stopped by %q", jobs)
	}
	m.override("docker: {restart: allow}")
	m.wantRestart()
	m.wantNoDifferences("docker")
}

func TestRestartWithoutForeignContainersIsAllowed(t *testing.T) {
	t.Parallel()
	m := withOtherStore(t)
	delete(m.docker.containers, "shop")
	m.docker.containers["done"] = &container{Name: "done"}
	m.docker.containers["calico-node"] = &container{Name: "calico-node", Running: true}
	m.docker.containers["firstboot-probe-host1"] = &container{Name: "firstboot-probe-host1", Running: true, Labels: map[string]string{"io.firstboot.probe": "1"}}
	m.wantRestart()
	m.wantNoDifferences("docker")
}

// wantRestart fails the test unless the stage restarts Docker once and waits for
// it.
func (m *machine) wantRestart() {
	m.t.Helper()
	err := m.apply(m.t.Context(), "docker")
	if !isError[*engine.Wait](err) {
		m.t.Errorf("got %v, want a wait for the restart", err)
	}
	if jobs := m.stepsWith("unit "); !slices.Equal(jobs, []string{"unit restart docker.service"}) || m.docker.effectiveStore != ownStore {
		m.t.Errorf("systemd jobs are %q, and the store in effect is %s", jobs, m.docker.effectiveStore)
	}
}

// TestShownStoreMayNotBeInEffect: after a reload, Docker shows the new store but
// still uses the old one.
func TestShownStoreMayNotBeInEffect(t *testing.T) {
	t.Parallel()
	m := withOtherStore(t)
	delete(m.docker.containers, "shop")
	if err := m.systemd.job("reload", units.Docker); err != nil {
		t.Fatal(err)
	}
	if m.docker.shownStore != ownStore || m.docker.effectiveStore != otherStore {
		t.Fatalf("shown %s, in effect %s", m.docker.shownStore, m.docker.effectiveStore)
	}
	m.wantDifference("docker", "not in effect")
	// An earlier reload by firstboot was for an earlier daemon.json.
	_ = m.notes.SetNotes(func(n *state.Notes) { n.StoreReloaded = time.Now().Add(-time.Hour) })
	m.wantDifference("docker", "not in effect")
	m.wantRestart()
	m.wantNoDifferences("docker")
}

func TestReloadWithoutEffectIsRetried(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config")
	m.docker.ignoresReload = true
	err := m.apply(t.Context(), "docker")
	if !isError[*engine.Retry](err) || !strings.Contains(err.Error(), "cannot set the cluster-store by a reload") {
		t.Errorf("got %v", err)
	}
	m.docker.ignoresReload = false
	m.mustApply("docker")
}

// TestRestartWaitsForThePlugin: containers stay dead if the plugin does not run
// when Docker starts.
func TestRestartWaitsForThePlugin(t *testing.T) {
	t.Parallel()
	m := withOtherStore(t)
	delete(m.docker.containers, "shop")
	m.mustApply("minions")
	if err := m.systemd.job("stop", units.Minions); err != nil {
		t.Fatal(err)
	}
	err := m.apply(t.Context(), "docker")
	wait, waits := asError[*engine.Wait](err)
	if !waits || !strings.Contains(wait.For, "the plugin's sockets") || len(m.stepsWith("unit ")) > 0 {
		t.Errorf("got %v after %q", err, m.stepsWith("unit "))
	}
	m.boot(units.Minions)
	m.wantRestart()
}

func TestDockerIsStartedAndWaitedFor(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config")
	m.stopDocker()
	m.wantDifference("docker", "docker.service", "inactive", "expected active")
	m.systemd.unit(units.Docker).slow = 1
	err := m.apply(t.Context(), "docker")
	wait, waits := asError[*engine.Wait](err)
	if jobs := m.stepsWith("unit "); !waits || wait.For != "Docker to start" || !slices.Equal(jobs, []string{"unit start docker.service"}) {
		t.Fatalf("got %v after %q", err, jobs)
	}
	err = m.apply(t.Context(), "docker") // it is activating
	if jobs := m.stepsWith("unit "); !isError[*engine.Wait](err) || len(jobs) > 0 {
		t.Errorf("got %v after %q, want no second start while the first is in progress", err, jobs)
	}
	m.mustApply("docker")
	if m.docker.requestsWhileDown > 0 {
		t.Error("Docker got a request before systemd reported it active")
	}
}

func TestDockerThatCannotStartIsReported(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config")
	m.stopDocker()
	m.put(dockerd.ConfigPath, "{")
	for range 2 {
		err := m.apply(t.Context(), "docker")
		if !isError[*engine.Wait](err) {
			t.Fatalf("got %v", err)
		}
	}
	if d := m.check("docker").Differences[0]; d.Actual != "failed" || !strings.Contains(d.Fix, "journalctl") {
		t.Errorf("%+v", d)
	}
	m.commandFails = map[string]CommandResult{"journalctl": {Stdout: "Starting up\nunable to configure the Docker daemon: invalid character\n"}}
	const want = "failed: unable to configure the Docker daemon: invalid character"
	if d := m.check("docker").Differences[0]; d.Actual != want {
		t.Errorf("%+v", d)
	}
	if err := m.apply(t.Context(), "docker"); err == nil || !strings.Contains(err.Error(), "docker.service is "+want) {
		t.Errorf("got %v", err)
	}
}

func TestUnresponsiveDockerIsWaitedFor(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config")
	m.docker.unresponsive = true
	m.wantDifference("docker", "Docker", "expected a response")
	if err := m.apply(t.Context(), "docker"); !isError[*engine.Wait](err) {
		t.Errorf("got %v", err)
	}
}

func TestNodeImageIsLoaded(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config", "docker")
	delete(m.docker.images, nodeImage)
	m.wantDifference("docker", nodeImage, "missing")
	m.mustApply("docker")
	if steps := m.stepsWith("command "); !slices.Equal(steps, []string{"command docker load"}) {
		t.Errorf("took the steps %q", steps)
	}
}

func TestArchiveWithoutTheImageIsRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if err := os.WriteFile(m.artifacts.image, []byte(imageArchive(t, "calico/node:v3.22.0")), 0o600); err != nil {
		t.Fatal(err)
	}
	m.override(`node: {sha256: "` + digestOf(m.artifacts.image) + `"}`)
	m.mustApply("config")
	m.wantPermanentError("docker", "does not contain the image "+nodeImage, "set node.image")
}

func TestUnreadableArchiveIsRetried(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if err := os.WriteFile(m.artifacts.image, []byte("not an archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.override(`node: {sha256: "` + digestOf(m.artifacts.image) + `"}`)
	m.mustApply("config")
	if err := m.apply(t.Context(), "docker"); !isError[*engine.Retry](err) || !strings.Contains(err.Error(), "cannot load the image") {
		t.Errorf("got %v", err)
	}
}

func TestNodeImageIsPulledWithoutAnArchive(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override(`node: {url: "", sha256: ""}`)
	m.mustApply("config")
	m.docker.pullFails = httpAnswer{http.StatusInternalServerError, "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host"}
	err := m.apply(t.Context(), "docker")
	if wait, waits := asError[*engine.Wait](err); !waits || !strings.Contains(wait.For, nodeImage) || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("without a network got %v", err)
	}
	m.docker.pullable[nodeImage] = true
	m.mustApply("docker")
}

// TestMissingTagIsPermanent: time does not add a tag to a registry.
func TestMissingTagIsPermanent(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]httpAnswer{
		"status 404":          {http.StatusNotFound, "manifest for calico/node:v3.23.0 not found: manifest unknown: manifest unknown"},
		"error in the stream": {http.StatusOK, `{"status":"Pulling from calico/node"}` + "\n" + `{"errorDetail":{},"error":"manifest unknown"}` + "\n"},
		"private repository":  {http.StatusNotFound, "pull access denied for calico/node, repository does not exist or may require 'docker login'"},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t)
			m.override(`node: {url: "", sha256: ""}`)
			m.mustApply("config")
			m.docker.pullFails = answer
			m.wantPermanentError("docker", "cannot pull "+nodeImage, "node.image")
		})
	}
}

func TestClusterStoreOffLeavesDockerUnchanged(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override(`docker: {clusterStore: "off"}`)
	m.docker.shownStore, m.docker.effectiveStore = "consul://x:8500", "consul://x:8500"
	m.mustApply("config", "docker")
	if jobs := m.stepsWith("unit "); len(jobs) > 0 {
		t.Errorf("systemd jobs are %q, want none", jobs)
	}
}

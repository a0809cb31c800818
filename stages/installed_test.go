package stages_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// preinstall makes the machine have an image and a package under the pinned names
// and versions, with other bytes than the pinned ones.
func (m *machine) preinstall() {
	m.docker.images[nodeImage] = image{ID: "sha256:other"}
	m.installed, m.sigMD5 = "eru-minions-1.2.3-1", "other"
	m.writePackaged()
	m.makeDatabase()
}

// wantFirstDifference fails the test unless the first difference of a stage's
// check contains the words.
func (m *machine) wantFirstDifference(name string, words ...string) {
	m.t.Helper()
	f := m.check(name)
	if f.OK() {
		m.t.Fatalf("%s has no differences, want one with %q", name, words)
	}
	wantWords(m.t, f.Differences[0].String(), words...)
}

// TestWhatWasAlreadyInstalledIsVerified: a name and a version prove nothing.
func TestWhatWasAlreadyInstalledIsVerified(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override(`docker: {clusterStore: "off"}`)
	m.preinstall()
	m.mustApply("config")
	m.wantDifference("docker", nodeImage, "not verified by firstboot", "sha256 "+digestOf(m.artifacts.image))
	m.wantFirstDifference("minions", "eru-minions-1.2.3-1", "not verified by firstboot", "sha256 "+digestOf(m.artifacts.rpm))
	m.mustApply("docker", "minions")
	if id := m.docker.images[nodeImage].ID; id != "sha256:"+archivedID([]string{nodeImage}) || m.sigMD5 != digestOf(m.artifacts.rpm) {
		t.Errorf("the image is %s, the package %s %s", id, m.installed, m.sigMD5)
	}
}

// TestPinnedBytesAreNotInstalledAgain: an image and a package that were installed
// before the first run are only compared with their files.
func TestPinnedBytesAreNotInstalledAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config", "docker", "minions")
	m.notes.n = state.Notes{StoreReloaded: m.notes.n.StoreReloaded, FilesReloaded: m.notes.n.FilesReloaded}
	starts := m.systemd.unit(units.Minions).starts
	for _, name := range []string{"docker", "minions"} {
		if m.check(name).OK() {
			t.Errorf("%s: unknown bytes count as verified", name)
		}
		m.mustApply(name)
		if steps := m.stepsWith("command "); slices.ContainsFunc(steps, func(s string) bool { return strings.Contains(s, "docker load") || strings.Contains(s, "rpm -U") }) {
			t.Errorf("%s: installed again: %q", name, steps)
		}
	}
	if m.systemd.unit(units.Minions).starts != starts {
		t.Error("the plugin was restarted")
	}
}

// TestPackageWithoutDigestIsInstalledAgain: nothing shows which bytes are
// installed.
func TestPackageWithoutDigestIsInstalledAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.rpmWithoutDigest = true
	m.mustApply("config", "minions")
	m.notes.n = state.Notes{FilesReloaded: m.notes.n.FilesReloaded}
	m.mustApply("minions")
	if steps := m.stepsWith("command rpm -U"); len(steps) != 1 {
		t.Errorf("took the steps %q", m.stepsWith("command "))
	}
}

// TestImageInContainerdsStoreIsNotLoadedAgain: there an image's ID is the digest of
// its manifest.
func TestImageInContainerdsStoreIsNotLoadedAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.docker.images[nodeImage] = image{ID: manifestID}
	m.mustApply("config", "docker")
	if steps := m.stepsWith("command docker load"); len(steps) > 0 {
		t.Errorf("took the steps %q", steps)
	}
}

// TestReplacedBytesAreFound: somebody replaced the image or the package under the
// same name.
func TestReplacedBytesAreFound(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config", "docker", "minions")
	m.docker.images[nodeImage], m.sigMD5 = image{ID: "sha256:other"}, "other"
	m.wantDifference("docker", "not verified by firstboot")
	m.wantDifference("minions", "not verified by firstboot")
	m.mustApply("docker", "minions")
}

// newPins returns a configuration that pins another package and another image
// under the same names and version.
func (m *machine) newPins() string {
	m.t.Helper()
	dir := m.t.TempDir()
	rpm, archive := filepath.Join(dir, "new.rpm"), filepath.Join(dir, "new.tar")
	for path, data := range map[string]string{
		rpm: packageFile(m.t, "eru-minions", "9.9.9", "noarch"), archive: imageArchive(m.t, nodeImage, "extra:1"),
	} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	m.artifacts.rpm, m.artifacts.image = rpm, archive
	return `{minions: {url: "` + rpm + `", sha256: "` + digestOf(rpm) + `"}, node: {url: "` + archive + `", sha256: "` + digestOf(archive) + `"}}`
}

// TestNewPinsAreApplied on a complete host: plan names them, and run --force
// installs them and restarts what uses them.
func TestNewPinsAreApplied(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.mustRun()
	oldImage, oldRPM := digestOf(m.artifacts.image), digestOf(m.artifacts.rpm)
	journal, _, err := state.LoadJournal(m.openHost())
	if err != nil {
		t.Fatal(err)
	}
	m.override(m.newPins())
	m.notes.n = journal.Notes
	m.wantDifference("docker", nodeImage, oldImage, digestOf(m.artifacts.image))
	m.wantDifference("minions", "eru-minions-1.2.3-1", oldRPM, digestOf(m.artifacts.rpm))
	m.wantStatus(state.Drifted)
	started := m.systemd.unit(units.Minions).starts
	m.mustRunWith(true)
	m.wantStatus(state.Complete)
	if _, loaded := m.docker.images["extra:1"]; !loaded || m.installed != "eru-minions-9.9.9-1" {
		t.Errorf("installed are %s and the images %v", m.installed, m.docker.images)
	}
	if m.docker.containers["calico-node"].ImageID != m.docker.images[nodeImage].ID {
		t.Error("calico-node runs the old image")
	}
	if m.systemd.unit(units.Minions).starts == started {
		t.Error("eru-minions was not restarted")
	}
}

// TestPluginOlderThanItsPackageIsRestarted, even if the package kept its
// configuration file: the last run may have ended after the installation.
func TestPluginOlderThanItsPackageIsRestarted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config", "minions")
	m.modified(minionsConf, time.Now().Add(-2*time.Hour))
	m.systemd.unit(units.Minions).since = time.Now().Add(-time.Hour)
	m.wantDifference("minions", "started before its package was installed")
	starts := m.systemd.unit(units.Minions).starts
	m.mustApply("minions")
	if m.systemd.unit(units.Minions).starts != starts+1 {
		t.Error("it was not restarted")
	}
}

// TestPinWithoutSourceIsRefused: a registry's image cannot be compared with the
// digest of an archive.
func TestPinWithoutSourceIsRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.docker.images[nodeImage] = image{ID: "sha256:other"}
	m.docker.pullable[nodeImage] = true
	m.override(`node: {url: ""}`)
	m.mustApply("config")
	m.wantPermanentError("docker", "node-image", "not in a bundle")
	found := m.check("preflight").Differences
	if !slices.ContainsFunc(found, func(d engine.Difference) bool { return d.Name == "artifact-missing" && d.Object == "node-image" }) {
		t.Errorf("preflight found %v", found)
	}
}

// TestOtherArchiveDoesNotVerifyTheEarlierImage that Docker has under that name.
func TestOtherArchiveDoesNotVerifyTheEarlierImage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if err := os.WriteFile(m.artifacts.image, []byte(imageArchive(t, "calico/node:v3.22.0")), 0o600); err != nil {
		t.Fatal(err)
	}
	m.override(`node: {sha256: "` + digestOf(m.artifacts.image) + `"}`)
	m.docker.images[nodeImage] = image{ID: "sha256:other"}
	m.mustApply("config")
	m.wantPermanentError("docker", "does not contain the image "+nodeImage, "set node.image")
	if len(m.notes.Notes().Installed) > 0 {
		t.Errorf("recorded %v", m.notes.Notes().Installed)
	}
}

// TestBundlePinsItsArtifacts: the manifest of the bundle states the digests of
// artifacts that the configuration does not pin.
func TestBundlePinsItsArtifacts(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override(`{calicoctl: {url: "", sha256: ""}, node: {url: "", sha256: ""}, minions: {url: "", sha256: ""}, docker: {clusterStore: "off"}}`)
	m.bundle()
	m.preinstall()
	m.putProgram("/usr/bin/calicoctl", calicoctlScript("v3.23.0")+"# other bytes\n")
	m.mustApply("config")
	m.wantDifference("calicoctl", digestOf(m.artifacts.calicoctl))
	m.wantDifference("docker", digestOf(m.artifacts.image))
	m.wantFirstDifference("minions", digestOf(m.artifacts.rpm))
	m.mustApply("calicoctl", "docker", "minions")
}

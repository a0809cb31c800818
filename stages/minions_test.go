package stages_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

func withPlugin(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.mustApply("minions")
	return m
}

func TestMinionsRunBeforeDocker(t *testing.T) {
	t.Parallel()
	m := withPlugin(t)
	if m.installed != "eru-minions-1.2.3-1" {
		t.Errorf("installed is %s", m.installed)
	}
	// Our configuration replaced the one in the package.
	if got := m.get(minionsConf); got != "ETCD_ENDPOINTS=http://127.0.0.1:1\n" {
		t.Errorf("%s: %s", minionsConf, got)
	}
	wantWords(t, m.get(units.MinionsDropIn), "Before=docker.service")
	wantWords(t, m.get(units.DockerDropIn), "firstboot wait-plugin")
	u := m.systemd.unit(units.Minions)
	if u.active != "active" || !u.enabled || !strings.Contains(u.read, "Before=docker.service") {
		t.Errorf("the unit is %+v", u)
	}
	m.mustApply("minions")
	if steps := m.stepsWith("unit restart"); len(steps) > 0 {
		t.Errorf("a second Apply took the steps %q", steps)
	}
}

// TestMinionsPackageIsCheckedAndRepaired by rpm's database and the files.
func TestMinionsPackageIsCheckedAndRepaired(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*machine)
		words  []string
	}{
		"not installed":       {func(m *machine) { m.installed = "" }, []string{"not installed"}},
		"an older one":        {func(m *machine) { m.installed = "eru-minions-1.0.0-1"; m.writePackaged() }, []string{"eru-minions-1.0.0-1", "expected eru-minions-1.2.3-1"}},
		"a newer one":         {func(m *machine) { m.installed = "eru-minions-2.0.0-1"; m.writePackaged() }, []string{"eru-minions-2.0.0-1"}},
		"a truncated program": {func(m *machine) { m.put(minionsProgram, "#!/b") }, []string{"S.5......", minionsProgram}},
		"a missing program":   {func(m *machine) { m.remove(minionsProgram) }, []string{"missing", minionsProgram}},
	} {
		t.Run(what, func(t *testing.T) {
			m := withPlugin(t)
			c.change(m)
			m.put(minionsConf, "ETCD_ENDPOINTS=http://127.0.0.1:1\n")
			m.modified(minionsConf, time.Now().Add(-time.Hour))
			m.wantDifference("minions", c.words...)
			m.mustApply("minions")
			m.put(minionsConf, m.get(minionsConf))
			if m.installed != "eru-minions-1.2.3-1" || m.get(minionsProgram) != packaged(m.installed)[minionsProgram] {
				t.Errorf("%s, %s", m.installed, m.get(minionsProgram))
			}
		})
	}
}

// writePackaged writes the files of the installed package.
func (m *machine) writePackaged() {
	for path, text := range packaged(m.installed) {
		m.put(path, text)
	}
}

func TestMinionsConfIsRestoredAfterAnotherInstall(t *testing.T) {
	t.Parallel()
	m := withPlugin(t)
	m.systemd.unit(units.Minions).since = time.Now().Add(time.Hour) // the clock was set back
	m.rpmInstall([]string{"--nodeps", "--replacepkgs", m.artifacts.rpm})
	m.wantDifference("minions", minionsConf, "different content")
	m.mustApply("minions")
	if jobs := m.stepsWith("unit restart"); !slices.Equal(jobs, []string{"unit restart eru-minions.service"}) {
		t.Errorf("systemd jobs are %q, want a restart of the plugin", jobs)
	}
	if steps := m.stepsWith("command rpm"); len(steps) > 0 {
		t.Errorf("an undamaged package was installed again: %q", steps)
	}
}

func TestMinionsUnitIsCheckedAndRepaired(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*machine)
		words  []string
	}{
		"stopped":                      {func(m *machine) { _ = m.systemd.job("stop", units.Minions) }, []string{"inactive", "expected active"}},
		"disabled":                     {func(m *machine) { m.systemd.disable(units.Minions) }, []string{"disabled", "expected enabled"}},
		"changed on disk":              {func(m *machine) { m.put(units.AdminDir+"/eru-minions.service.d/x.conf", "[Service]\n") }, []string{"changed on disk"}},
		"older than its configuration": {func(m *machine) { m.systemd.unit(units.Minions).since = time.Now().Add(-time.Hour) }, []string{"started before " + minionsConf}},
		"without its drop-in":          {func(m *machine) { m.remove(units.MinionsDropIn) }, []string{units.MinionsDropIn, "missing"}},
		"without Docker's drop-in":     {func(m *machine) { m.put(units.DockerDropIn, "") }, []string{units.DockerDropIn}},
	} {
		t.Run(what, func(t *testing.T) {
			m := withPlugin(t)
			c.change(m)
			m.wantDifference("minions", c.words...)
			m.mustApply("minions")
		})
	}
}

// TestDockerWaitsForNoPluginWithoutItsPackage: Docker's drop-in makes it wait 15 minutes
// for the plugin at each start.
func TestDockerWaitsForNoPluginWithoutItsPackage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config")
	m.override(`minions: {sha256: "` + strings.Repeat("0", 64) + `"}`)
	if err := m.apply(t.Context(), "minions"); err == nil {
		t.Fatal("a damaged package was installed")
	}
	if fileExists(m.file(units.DockerDropIn)) {
		t.Errorf("%s exists", units.DockerDropIn)
	}
	if m.systemd.outdated {
		t.Error("systemd has not read the changes")
	}
}

// TestDeadPluginIsFoundDespiteItsSockets: only a response proves that the plugin
// runs.
func TestDeadPluginIsFoundDespiteItsSockets(t *testing.T) {
	t.Parallel()
	m := withPlugin(t)
	m.setPlugin(false) // systemd has not noticed
	for _, socket := range minions.Sockets(false) {
		if !fileExists(m.file(socket.Path)) {
			t.Errorf("%s does not exist", socket.Path)
		}
	}
	f := m.check("minions")
	if len(f.Differences) != 2 {
		t.Errorf("got the differences %v, want one per socket", f.Differences)
	}
	err := m.apply(t.Context(), "minions")
	wait, waits := asError[*engine.Wait](err)
	if !waits || !strings.Contains(wait.For, "eru-minions to open its sockets") {
		t.Errorf("got %v", err)
	}
}

func TestPluginMustImplementBothDrivers(t *testing.T) {
	t.Parallel()
	m := withPlugin(t)
	sockets := minions.Sockets(false)
	if err := os.Remove(m.file(sockets[1].Path)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Base(sockets[0].Path), m.file(sockets[1].Path)); err != nil {
		t.Fatal(err)
	}
	m.wantDifference("minions", "implements NetworkDriver, not IpamDriver")
}

func TestMinionsWithoutEtcdIsWaitedFor(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override("etcd: {endpoints: ['http://127.0.0.1:9']}") // the plugin cannot reach it
	if err := m.apply(t.Context(), "minions"); !isError[*engine.Wait](err) {
		t.Errorf("got %v", err)
	}
	if m.systemd.unit(units.Minions).active != "failed" {
		t.Error("the plugin runs without etcd")
	}
}

func TestLockOfRPMIsWaitedFor(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.rpmFails = "error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)"
	m.put("/proc/locks", "1: FLOCK  ADVISORY  WRITE 300 00:1b:1 0 EOF\n2: POSIX  ADVISORY  WRITE 200 fd:00:1 0 EOF\n3: POSIX  ADVISORY  WRITE 4711 fd:00:2 0 EOF\n")
	m.put("/proc/200/comm", "rsyslogd\n")
	m.put("/proc/300/comm", "rpm\n")
	m.put("/proc/4711/comm", "dnf\n")
	err := m.apply(t.Context(), "minions")
	wait, waits := asError[*engine.Wait](err)
	if !waits || wait.For != "rpm's transaction lock, held by dnf (pid 4711)" {
		t.Errorf("got %v", err)
	}
	m.remove("/proc/locks")
	err = m.apply(t.Context(), "minions")
	if wait, _ := asError[*engine.Wait](err); wait == nil || wait.For != "rpm's transaction lock" {
		t.Errorf("with an unknown holder got %v", err)
	}
	m.rpmFails = ""
	m.mustApply("minions")
}

func TestFailedInstallIsRetried(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.rpmFails = "error: unpacking of archive failed: cpio: write failed - No space left on device"
	err := m.apply(t.Context(), "minions")
	if !isError[*engine.Retry](err) || !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("got %v", err)
	}
}

func TestDependenciesAreCheckedOnAnRPMHost(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.remove("/var/lib/dpkg")
	m.mustApply("minions")
	for _, step := range m.stepsWith("command rpm") {
		if strings.Contains(step, "--nodeps") {
			t.Errorf("on a host without dpkg: %s", step)
		}
	}
}

func TestFailedRPMQueryIsAnError(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.commandFails = map[string]CommandResult{"rpm": {Exit: 1, Stderr: "error: cannot open Packages database in /var/lib/rpm"}}
	_, err := m.stage("minions").Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot query rpm") {
		t.Errorf("got %v, want an error", err)
	}
}

func TestMinionsRefusesTheWrongPackage(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		data  string
		words []string
	}{
		"another name":         {packageFile(t, "eru-agent", "1.2.3", "noarch"), []string{"eru-agent", "minions.url"}},
		"another architecture": {packageFile(t, "eru-minions", "1.2.3", "s390x"), []string{"s390x", "minions.url"}},
		"not a package":        {"<html>", []string{"right file"}},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t)
			m.usePackage(c.data, "")
			m.wantPermanentError("minions", c.words...)
			if m.installed != "" || len(m.stepsWith("command ")) > 0 {
				t.Errorf("installed %s by %q", m.installed, m.stepsWith("command "))
			}
		})
	}
}

// usePackage makes data the configured package, pinned by its digest, or by a key
// if there is one.
func (m *machine) usePackage(data, key string) {
	m.t.Helper()
	if err := os.WriteFile(m.artifacts.rpm, []byte(data), 0o600); err != nil {
		m.t.Fatal(err)
	}
	sum := digestOf(m.artifacts.rpm)
	if key != "" {
		sum = ""
	}
	m.override(fmt.Sprintf("minions: {sha256: %q, signedBy: %q}", sum, key))
}

// TestUnsignedPackageIsNotCached, so that the right package is fetched once the
// URL serves it.
func TestUnsignedPackageIsNotCached(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	key, err := openpgp.NewEntity("packager", "", "packager@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/etc/firstboot/packager.asc"
	m.put(path, armored(t, key))
	m.usePackage(minionsRPM(t, ""), path)
	m.wantPermanentError("minions", "not signed", "minions.signedBy")
	if m.installed != "" {
		t.Fatalf("installed %s", m.installed)
	}
	if err := os.WriteFile(m.artifacts.rpm, signedRPM(t, key), 0o600); err != nil {
		t.Fatal(err)
	}
	m.mustApply("minions")
}

func armored(t *testing.T, key *openpgp.Entity) string {
	t.Helper()
	var text strings.Builder
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err == nil {
		err = key.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestMinionsKeepsItsEnvironmentSecret(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override("minions: {environment: {CALICO_LIBNETWORK_LABEL: 's3cret x', B: '1'}}")
	for _, d := range m.check("minions").Differences {
		if strings.Contains(d.Diff+d.String(), "s3cret") {
			t.Errorf("a difference shows the secret: %+v", d)
		}
	}
	m.mustApply("minions")
	if got := m.get(minionsConf); got != "ETCD_ENDPOINTS=http://127.0.0.1:1\nB=1\nCALICO_LIBNETWORK_LABEL=\"s3cret x\"\n" {
		t.Errorf("%s: %s", minionsConf, got)
	}
	if info, err := os.Stat(m.file(minionsConf)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestReplacedFileOfThePackageIsFound, also one of the same size.
func TestReplacedFileOfThePackageIsFound(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config", "minions")
	read := m.comparesDigests()
	m.wantNoDifferences("minions")
	if n := m.comparesDigests() - read; n != 0 {
		t.Errorf("rpm read the unchanged files %d times", n)
	}
	other := strings.Replace(m.get(minionsProgram), "sh", "ab", 1)
	m.putProgram(minionsProgram, other)
	f := m.check("minions")
	if len(f.Differences) == 0 || !strings.Contains(f.Differences[0].Actual, minionsProgram) {
		t.Errorf("got %v", f.Differences)
	}
	m.mustApply("minions")
	if m.get(minionsProgram) == other {
		t.Error("the file was not replaced")
	}
}

// TestPackageThatCannotBeComparedIsNotUnchanged: rpm lists no file then.
func TestPackageThatCannotBeComparedIsNotUnchanged(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config", "minions")
	m.rpmVerifies = &CommandResult{Exit: 1, Stderr: "error: cannot open Packages database"}
	if f, err := m.stage("minions").Check(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot compare the files of eru-minions") {
		t.Errorf("got %v, %v", f, err)
	}
}

// TestForcedRunReadsTheFilesOfThePackage, as verify does.
func TestForcedRunReadsTheFilesOfThePackage(t *testing.T) {
	t.Parallel()
	m := newHost(t, newCluster(t, etcdtest.Start(t, etcdtest.Options{EnableV2: true}).Endpoint), "host1")
	m.mustRun()
	before := m.comparesDigests()
	m.mustRunWith(true)
	if n := m.comparesDigests() - before; n == 0 {
		t.Error("rpm read no file")
	}
}

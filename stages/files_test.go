package stages_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

const (
	calicoctlConfig = "/etc/calico/calicoctl.cfg"
	linkFile        = "/etc/systemd/network/10-calico.link"
	managerFile     = "/etc/NetworkManager/conf.d/90-firstboot-calico.conf"
)

func TestConfigWritesFiles(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override(`etcd: {endpoints: ["http://127.0.0.1:1", "http://10.0.0.2:2379"]}`)
	m.mustApply("config")
	for path, want := range map[string]string{
		calicoctlConfig: `# Written by firstboot; edits are reported as drift.
apiVersion: projectcalico.org/v3
kind: CalicoAPIConfig
metadata: {}
spec:
  datastoreType: etcdv3
  etcdEndpoints: http://127.0.0.1:1,http://10.0.0.2:2379
`,
		linkFile: `# Written by firstboot; edits are reported as drift.
[Match]
OriginalName=cali* temp*

[Link]
MACAddressPolicy=none
`,
		dockerd.ConfigPath: `{
  "cluster-advertise": "10.0.0.2:2376",
  "cluster-store": "etcd://127.0.0.1:1,10.0.0.2:2379"
}
`,
	} {
		if d := cmp.Diff(want, m.get(path)); d != "" {
			t.Errorf("%s: %s", path, d)
		}
		if info, err := os.Stat(m.file(path)); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if fileExists(m.file(managerFile)) {
		t.Error("wrote a file for NetworkManager, which is not installed")
	}
	if commands := m.stepsWith("command "); !slices.Equal(commands, []string{"command udevadm control --reload"}) {
		t.Errorf("udevd was not reloaded: %q", commands)
	}
}

func TestConfigFindsAndRepairsChanges(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config")
	for _, path := range []string{calicoctlConfig, linkFile} {
		m.put(path, "something else\n")
		m.wantDifference("config", path, "different content")
		m.mustApply("config")
		m.remove(path)
		m.wantDifference("config", path, "missing")
		m.mustApply("config")
	}
	m.put(dockerd.ConfigPath, `{"cluster-store": "etcd://10.0.0.9:2379", "cluster-advertise": "10.0.0.2:2376"}`)
	m.wantDifference("config", dockerd.ConfigPath)
	m.mustApply("config")
	if written := m.stepsWith("write "); !slices.Equal(written, []string{"write " + dockerd.ConfigPath}) {
		t.Errorf("wrote %q, want only the file that differs", written)
	}
}

// TestConfigExcludesInterfacesFromNetworkManager also checks that a running
// NetworkManager is reloaded.
func TestConfigExcludesInterfacesFromNetworkManager(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put("/etc/NetworkManager/NetworkManager.conf", "")
	m.mustApply("config")
	wantWords(t, m.get(managerFile), "unmanaged-devices+=interface-name:cali*;interface-name:tunl*")
	if jobs := m.stepsWith("unit "); len(jobs) > 0 {
		t.Errorf("reloaded a NetworkManager that does not run: %q", jobs)
	}
	m.remove(managerFile)
	m.put(units.Dir+"/NetworkManager.service", "[Service]\n")
	m.boot("NetworkManager.service")
	m.systemd.programs["NetworkManager.service"] = program{load: func() error { return nil }}
	m.mustApply("config")
	if jobs := m.stepsWith("unit "); !slices.Equal(jobs, []string{"unit reload NetworkManager.service"}) {
		t.Errorf("ran %q, want one reload", jobs)
	}
}

// TestConfigChecksNetworkManagersOwnView checks the configuration that the program
// prints, because files of other directories can replace the list.
func TestConfigChecksNetworkManagersOwnView(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put("/etc/NetworkManager/NetworkManager.conf", "")
	m.putProgram("/usr/sbin/NetworkManager", "")
	m.managerPrints = "[main]\nplugins=keyfile\n\n[keyfile]\nunmanaged-devices=*,except:type:wifi,interface-name:cali*,interface-name:tunl*\n"
	m.mustApply("config")
	m.managerPrints = "[keyfile]\nunmanaged-devices=*,except:type:wifi,interface-name:cali*\n"
	m.wantDifference("config", "NetworkManager", "unmanaged-devices=*,except:type:wifi,interface-name:cali*", "a list with interface-name:tunl*")
	m.managerPrints = ""
	m.wantDifference("config", "NetworkManager", "no unmanaged-devices")
	m.override("preflight: {ignore: [networkmanager]}")
	if f := m.check("config"); !f.OK() || len(f.Warnings) != 1 {
		t.Errorf("with networkmanager ignored: %v and %q", f.Differences, f.Warnings)
	}
}

// TestConfigKeepsTheLinkOfDaemonJSON covers a file that another tool manages
// elsewhere.
func TestConfigKeepsTheLinkOfDaemonJSON(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"absolute": "/srv/docker/daemon.json", "relative": "../../srv/docker/daemon.json", "two links": "linked.json"} {
		m := newMachine(t)
		m.put("/srv/docker/daemon.json", `{"data-root": "/srv/docker"}`)
		m.put("/etc/docker/.keep", "")
		for path, to := range map[string]string{dockerd.ConfigPath: target, "/etc/docker/linked.json": "/srv/docker/daemon.json"} {
			if err := os.Symlink(to, m.file(path)); err != nil {
				t.Fatal(err)
			}
		}
		m.mustApply("config")
		if to, err := os.Readlink(m.file(dockerd.ConfigPath)); err != nil || to != target {
			t.Errorf("%s: the link became %s, %v", name, to, err)
		}
		wantWords(t, m.get("/srv/docker/daemon.json"), "cluster-store", "data-root")
	}
}

// TestConfigReloadsDaemonsWithOldConfiguration covers a run that stopped after
// it wrote the files and before it reloaded the daemons.
func TestConfigReloadsDaemonsWithOldConfiguration(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put("/etc/NetworkManager/NetworkManager.conf", "")
	m.mustApply("config")
	_ = m.notes.SetNotes(func(n *state.Notes) { *n = state.Notes{} })
	m.linkRead = false
	m.wantDifference("config", udevd, "has not read "+linkFile)
	m.mustApply("config")
	if !m.linkRead || len(m.stepsWith("write ")) > 0 {
		t.Errorf("udevd reloaded: %v, after %q", m.linkRead, m.stepsWith(""))
	}
	m.put(units.Dir+"/NetworkManager.service", "[Service]\n")
	m.boot("NetworkManager.service")
	m.systemd.programs["NetworkManager.service"] = program{load: func() error { return nil }}
	m.wantNoDifferences("config") // it started after the file was written
	m.systemd.unit("NetworkManager.service").since = time.Now().Add(-time.Hour)
	_ = m.notes.SetNotes(func(n *state.Notes) { n.FilesReloaded = time.Now().Add(-time.Minute) })
	if err := m.systemd.job("restart", udevd); err != nil {
		t.Fatal(err)
	}
	m.wantDifference("config", "NetworkManager.service", "has not read "+managerFile)
	m.mustApply("config")
}

func TestConfigWithoutUdevRunsNoCommand(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.remove("/usr/bin/udevadm")
	if err := m.systemd.job("stop", udevd); err != nil {
		t.Fatal(err)
	}
	m.mustApply("config")
	if commands := m.stepsWith("command "); len(commands) > 0 {
		t.Errorf("ran %q", commands)
	}
}

func TestConfigKeepsDaemonJSONWithClusterStoreOff(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override(`docker: {clusterStore: "off"}`)
	m.put(dockerd.ConfigPath, "not even JSON")
	m.mustApply("config")
	if m.get(dockerd.ConfigPath) != "not even JSON" {
		t.Error("daemon.json was changed")
	}
}

// TestConfigKeepsSecretsOfDaemonJSON checks that a file with mode 0600 keeps its
// mode and that a plan does not show its content.
func TestConfigKeepsSecretsOfDaemonJSON(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("config")
	putFile(t, m.root, dockerd.ConfigPath, `{"cluster-store": "etcd://127.0.0.1:1", "log-opts": {"splunk-token": "s3cret"}}`, 0o600)
	m.wantNoDifferences("config") // an image may contain it
	putFile(t, m.root, dockerd.ConfigPath, `{"log-opts": {"splunk-token": "s3cret"}}`, 0o600)
	for _, d := range m.check("config").Differences {
		if strings.Contains(d.Diff, "s3cret") {
			t.Errorf("a plan shows the secret: %s", d.Diff)
		}
	}
	m.mustApply("config")
	info, err := os.Stat(m.file(dockerd.ConfigPath))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	wantWords(t, m.get(dockerd.ConfigPath), "s3cret", "cluster-store")
}

func TestConfigRefusesADamagedDaemonJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"debug": true`, `[]`, `null`, `1`, `"x"`, `{} {}`, `{},`, "\ufeff{}", "debug: true"} {
		m := newMachine(t)
		m.put(dockerd.ConfigPath, text)
		if _, err := m.stage("config").Check(t.Context()); err == nil || !strings.Contains(err.Error(), dockerd.ConfigPath) || engine.Hint(err) == "" {
			t.Errorf("%s: check returned %v", text, err)
		}
		if err := m.apply(t.Context(), "config"); err == nil {
			t.Errorf("%s: merged into %s", text, m.get(dockerd.ConfigPath))
		}
		if m.get(dockerd.ConfigPath) != text {
			t.Errorf("%s: changed to %s", text, m.get(dockerd.ConfigPath))
		}
	}
}

//go:build lab

package nspawn

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// testInvalidConfiguration: the target of the workloads is not reached, but the
// host boots, so that an operator can correct the file.
func testInvalidConfiguration(t *testing.T, e *Environment) {
	invalid := strings.Replace(goodConfig, "cidr: 10.213.0.0/16", "cidr: 10.213.0.1/16", 1)
	h := bootHost(t, e, Options{Enabled: withUnits(), Without: withoutCloudInit(), Files: configured(invalid)})
	h.waitForState("firstboot.service", "failed")
	h.waitForJobs()
	h.wantProperty("multi-user.target", "ActiveState", "active")
	h.wantProperty("firstboot.service", "ExecMainStatus", "3")
	h.wantTargetNotReached()
	const position = "/etc/firstboot/config.yaml:2:14"
	h.contains(h.Journal(h.ctx, "firstboot.service"), position, "10.213.0.0/16")
	h.contains(h.Console(), position)
	h.contains(h.property("firstboot.service", "StatusText"), "failed: "+position)
	for _, path := range []string{"/run/issue.d/firstboot.issue", "/etc/issue.d/firstboot.issue", "/run/motd.d/firstboot"} {
		h.contains(h.readFile(path), "NOT a member", position, "firstboot validate")
	}
	h.waitFor("the message on the login screen", func() (string, bool) {
		seen := h.Console()
		return seen, strings.Contains(seen, "this host is NOT a member")
	})
	h.wantExit(1, []string{"systemctl", "start", "firstboot-complete.target"}, "dependency")
	h.wantTargetNotReached()
}

// testRefusedRun: a refused run writes nothing outside /run and its own directory.
func testRefusedRun(t *testing.T, e *Environment) {
	overlapping := strings.Replace(goodConfig, "10.213.0.0/16", "172.17.0.0/16", 1)
	h := bootHost(t, e, Options{Enabled: map[string]string{workload: "firstboot-complete.target"}, Without: withoutCloudInit(), Files: configured(overlapping)})
	h.waitForState("multi-user.target", "active")
	h.waitForJobs()
	h.wantProperty("firstboot.service", "ActiveState", "inactive")

	before := h.changedFiles()
	h.wantExit(1, []string{"systemctl", "start", "firstboot-complete.target"}, "dependency")
	h.wantProperty("firstboot.service", "ExecMainStatus", "4")
	h.wantTargetNotReached()
	for path, after := range h.changedFiles() {
		if before[path] != after {
			t.Errorf("the refused run changed %s: %s, before %s", path, after, before[path])
		}
		delete(before, path)
	}
	if left := slices.Sorted(maps.Keys(before)); len(left) > 0 {
		t.Errorf("the refused run removed %q", left)
	}

	const finding = "overlaps 172.17.0.0/16 on docker0"
	h.wantExit(4, []string{"firstboot", "status"}, "refused", finding)
	h.contains(h.Console(), "firstboot: refused after", finding)
	for _, path := range []string{"/run/issue.d/firstboot.issue", "/run/motd.d/firstboot"} {
		h.contains(h.readFile(path), "NOT a member", "was refused", finding, "nothing was changed")
	}
	if h.readFile("/etc/issue.d/firstboot.issue") != "" {
		t.Error("the refused run wrote into /etc")
	}
}

// testCredential: the configuration is a systemd credential. It exists only at the
// first boot, and an interactive shell cannot read it.
func testCredential(t *testing.T, e *Environment) {
	files := configured("")[1:]
	h := bootHost(t, e, Options{Enabled: withUnits(), Without: withoutCloudInit(), Files: files}, "--set-credential=firstboot.config:"+goodConfig)
	wantConfigured := func() {
		t.Helper()
		h.waitFor("the wait for etcd", func() (string, bool) {
			out, code := h.Run(h.ctx, "firstboot", "status")
			return out, code == 7 && strings.Contains(out, "waiting for etcd at "+etcdEndpoint)
		})
		h.wantExit(0, []string{"firstboot", "config"}, "10.213.0.0/16", "credential firstboot.config")
	}
	wantConfigured()
	h.contains(h.run("ls", "-l", "/var/lib/firstboot/effective.yaml"), "-rw-------")
	if err := h.Cut(); err != nil {
		t.Fatal(err)
	}
	h.boot()
	wantConfigured()
	h.waitForAttempt(2)
}

// testPresetPass: if /etc/machine-id is "uninitialized", systemd applies presets
// at boot. On Debian this enables all units without a preset.
func testPresetPass(t *testing.T, e *Environment) {
	h := bootHost(t, e, Options{
		MachineID: "uninitialized\n", Without: withoutCloudInit(),
		Files: append(configured(goodConfig),
			File{Path: "/etc/systemd/system/calico-node.service", Data: "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=docker.service\n"},
			File{Path: "/etc/systemd/system/control.service", Data: "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=docker.service\n"}),
	})
	h.waitForState("docker.service", "active")
	for unit, want := range map[string]string{
		"control.service": "enabled", "firstboot.service": "enabled", "firstboot-complete.target": "enabled",
		"calico-node.service": "disabled", "firstboot-report.service": "static", "firstboot-etcd.service": "disabled",
		"firstboot-adapter.socket": "disabled", "firstboot-adapter.service": "disabled",
	} {
		h.wantProperty(unit, "UnitFileState", want)
	}
	h.wantProperty("calico-node.service", "ActiveState", "inactive")
	h.waitForState("firstboot.service", "activating")
}

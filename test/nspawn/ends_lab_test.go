//go:build lab

package nspawn

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// anInvalidConfiguration: the target that workloads need is not reached, and
// the host can be used to repair the file.
func anInvalidConfiguration(t *testing.T, s *Site) {
	invalid := strings.Replace(goodConfig, "cidr: 10.213.0.0/16", "cidr: 10.213.0.1/16", 1)
	h := boots(t, s, Options{Enabled: withUnits(), Without: withoutCloudInit(), Files: configured(invalid)})
	h.becomes("firstboot.service", "failed")
	h.settled()
	h.is("multi-user.target", "ActiveState", "active")
	h.is("firstboot.service", "ExecMainStatus", "3")
	h.notReached()
	const position = "/etc/firstboot/config.yaml:2:14"
	h.says(h.Journal(h.ctx, "firstboot.service"), position, "10.213.0.0/16")
	h.says(h.Console(), position)
	h.says(h.prop("firstboot.service", "StatusText"), "failed: "+position)
	for _, path := range []string{"/run/issue.d/firstboot.issue", "/etc/issue.d/firstboot.issue", "/run/motd.d/firstboot"} {
		h.says(h.text(path), "NOT a member", position, "firstboot validate")
	}
	h.until("the login screen to say so", func() (string, bool) {
		seen := h.Console()
		return seen, strings.Contains(seen, "this host is NOT a member")
	})
	h.exits(1, []string{"systemctl", "start", "firstboot-complete.target"}, "dependency")
	h.notReached()
}

// aRefusedRun writes nothing outside of firstboot's own folder and /run.
func aRefusedRun(t *testing.T, s *Site) {
	overlapping := strings.Replace(goodConfig, "10.213.0.0/16", "172.17.0.0/16", 1)
	h := boots(t, s, Options{Enabled: map[string]string{workload: "firstboot-complete.target"}, Without: withoutCloudInit(), Files: configured(overlapping)})
	h.becomes("multi-user.target", "active")
	h.settled()
	h.is("firstboot.service", "ActiveState", "inactive")

	before := h.written()
	h.exits(1, []string{"systemctl", "start", "firstboot-complete.target"}, "dependency")
	h.is("firstboot.service", "ExecMainStatus", "4")
	h.notReached()
	for path, after := range h.written() {
		if before[path] != after {
			t.Errorf("the refused run changed %s: %s, before %s", path, after, before[path])
		}
		delete(before, path)
	}
	if left := slices.Sorted(maps.Keys(before)); len(left) > 0 {
		t.Errorf("the refused run removed %q", left)
	}

	const finding = "overlaps 172.17.0.0/16 on docker0"
	h.exits(4, []string{"firstboot", "status"}, "refused", finding)
	h.says(h.Console(), "firstboot: refused after", finding)
	for _, path := range []string{"/run/issue.d/firstboot.issue", "/run/motd.d/firstboot"} {
		h.says(h.text(path), "NOT a member", "was refused", finding, "nothing was changed")
	}
	if h.text("/etc/issue.d/firstboot.issue") != "" {
		t.Error("the refused run wrote into /etc")
	}
}

// aCredential is a source that is gone after the first boot, and that no
// interactive shell sees.
func aCredential(t *testing.T, s *Site) {
	files := configured("")[1:]
	h := boots(t, s, Options{Enabled: withUnits(), Without: withoutCloudInit(), Files: files}, "--set-credential=firstboot.config:"+goodConfig)
	known := func() {
		t.Helper()
		h.until("the wait for etcd", func() (string, bool) {
			out, code := h.Run(h.ctx, "firstboot", "status")
			return out, code == 7 && strings.Contains(out, "waiting for etcd at "+etcdEndpoint)
		})
		h.exits(0, []string{"firstboot", "config"}, "10.213.0.0/16", "credential firstboot.config")
	}
	known()
	h.says(h.run("ls", "-l", "/var/lib/firstboot/effective.yaml"), "-rw-------")
	if err := h.Cut(); err != nil {
		t.Fatal(err)
	}
	h.boot()
	known()
	h.attempt(2)
}

// aPresetPass is what systemd does at boot where /etc/machine-id says
// uninitialized: on Debian it enables every unit that no preset names.
func aPresetPass(t *testing.T, s *Site) {
	h := boots(t, s, Options{
		MachineID: "uninitialized\n", Without: withoutCloudInit(),
		Files: append(configured(goodConfig),
			File{Path: "/etc/systemd/system/calico-node.service", Data: "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=docker.service\n"},
			File{Path: "/etc/systemd/system/control.service", Data: "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=docker.service\n"}),
	})
	h.becomes("docker.service", "active")
	for unit, want := range map[string]string{
		"control.service": "enabled", "firstboot.service": "enabled", "firstboot-complete.target": "enabled",
		"calico-node.service": "disabled",
	} {
		h.is(unit, "UnitFileState", want)
	}
	h.is("calico-node.service", "ActiveState", "inactive")
	h.becomes("firstboot.service", "activating")
}

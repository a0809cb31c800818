package stages_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/engine"
)

const (
	sysctlFile  = "/etc/sysctl.d/99-zz-firstboot.conf"
	modulesFile = "/etc/modules-load.d/firstboot.conf"
)

func TestSysctlSetsKeysNowAndAtEveryBoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("sysctl")
	if got, want := m.get(sysctlFile), `# Written by firstboot; edits are reported as drift.
net.ipv4.ip_forward = 1
net.ipv6.conf.all.disable_ipv6 = 1
net.ipv6.conf.default.disable_ipv6 = 1
net.netfilter.nf_conntrack_max = 1000000
`; got != want {
		t.Errorf("%s:\n%s", sysctlFile, got)
	}
	if got, want := m.get(modulesFile), "# Written by firstboot; edits are reported as drift.\nnf_conntrack\nip_tables\nip6_tables\nxt_set\n"; got != want {
		t.Errorf("%s:\n%s", modulesFile, got)
	}
	for key, want := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/netfilter/nf_conntrack_max": "1000000", "net/ipv6/conf/all/disable_ipv6": "1",
	} {
		if got := strings.TrimSpace(m.get("/proc/sys/" + key)); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	// The module that provides a key is loaded before the key is set.
	steps := m.stepsWith("")
	if load, set := slices.Index(steps, "module nf_conntrack"), slices.Index(steps, "sysctl net.netfilter.nf_conntrack_max"); load < 0 || set < load {
		t.Errorf("steps: %q", steps)
	}
	if slices.Contains(steps, "module ip_tables") {
		t.Error("loaded a module that was loaded already")
	}
}

func TestSysctlFindsAndRepairsChanges(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("sysctl")
	for _, c := range []struct {
		name   string
		change func()
		words  []string
	}{
		{"a key", func() { m.put("/proc/sys/net/ipv4/ip_forward", "0\n") }, []string{"net.ipv4.ip_forward", "0", "expected 1"}},
		{"the file", func() { m.put(sysctlFile, "") }, []string{sysctlFile}},
		{"a module", func() { m.remove("/sys/module/xt_set") }, []string{"xt_set", "not loaded"}},
		{"a mode", func() {
			m.remove(modulesFile)
			putFile(t, m.root, modulesFile, "# Written by firstboot; edits are reported as drift.\nnf_conntrack\nip_tables\nip6_tables\nxt_set\n", 0o600)
		}, []string{modulesFile, "mode 0600", "mode 0644"}},
	} {
		c.change()
		m.wantDifference("sysctl", c.words...)
		m.mustApply("sysctl")
	}
}

func TestSysctlShowsADiff(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put(sysctlFile, "net.ipv4.ip_forward = 0\n")
	for _, d := range m.check("sysctl").Differences {
		if d.Object == sysctlFile {
			wantWords(t, d.Diff, "--- "+sysctlFile[1:], "-net.ipv4.ip_forward = 0\n", "+net.ipv4.ip_forward = 1\n")
			return
		}
	}
	t.Error("no difference for the file")
}

func TestSysctlComparesNormalizedValues(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
	m.put("/proc/sys/net/ipv4/conf/eth0.5/rp_filter", "0\n")
	m.override(`sysctl: {net.ipv4.tcp_rmem: "4096  131072 6291456", net.ipv4.conf.eth0/5.rp_filter: 1}`)
	m.mustApply("sysctl")
	if steps := m.stepsWith("sysctl net.ipv4.tcp_rmem"); len(steps) > 0 {
		t.Error("set a key that had the value already")
	}
	if got := m.get("/proc/sys/net/ipv4/conf/eth0.5/rp_filter"); got != "1\n" {
		t.Errorf("rp_filter of eth0.5 is %q", got)
	}
}

func TestSysctlReportsMissingKeysAndModules(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override("sysctl: {net.netfilter.no_such_key: 1}")
	err := m.apply(t.Context(), "sysctl")
	if err == nil || !strings.Contains(err.Error(), "net.netfilter.no_such_key") {
		t.Errorf("a key that the kernel does not have: %v", err)
	}
	m.wantDifference("sysctl", "net.netfilter.no_such_key", "the kernel has no such key")
	if d := m.check("sysctl").Differences[0]; !strings.Contains(d.Fix, "module") {
		t.Errorf("no fix that names the module: %+v", d)
	}

	m = newMachine(t)
	m.modules["xt_set"] = false
	err = m.apply(t.Context(), "sysctl")
	if err == nil || !strings.Contains(err.Error(), "xt_set not found") || engine.Hint(err) == "" {
		t.Errorf("a module that does not exist: %v", err)
	}
}

func TestSysctlLoadsIPIPModule(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.override("pool: {ipip: CrossSubnet}")
	m.mustApply("sysctl")
	if !strings.HasSuffix(m.get(modulesFile), "\nipip\n") || !fileExists(m.file("/sys/module/ipip")) {
		t.Error("ipip is not loaded now, or not at the next boot")
	}
}

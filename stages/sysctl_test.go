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

func TestSysctlComparesWhatTheKernelMeans(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put("/proc/sys/net/ipv4/ip_local_reserved_ports", "8080-8081,30000-32767\n")
	m.put("/proc/sys/net/core/somaxconn", "4096\n")
	m.put("/proc/sys/kernel/printk", "3\t4\t1\t7\n")
	m.override(`sysctl: {net.ipv4.ip_local_reserved_ports: "30000-32767,8080,8081", net.core.somaxconn: 0010000, kernel.printk: 3}`)
	m.mustApply("sysctl")
	for _, key := range []string{"net.ipv4.ip_local_reserved_ports", "net.core.somaxconn", "kernel.printk"} {
		if steps := m.stepsWith("sysctl " + key); len(steps) > 0 {
			t.Errorf("set a key that had the value already: %q", steps)
		}
	}
}

// TestSysctlSetsWriteOnlyKeysAtBootOnly also checks that such a key does not hide
// the keys after it.
func TestSysctlSetsWriteOnlyKeysAtBootOnly(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	putFile(t, m.root, "/proc/sys/net/ipv4/route/flush", "", 0o200)
	m.put("/proc/sys/net/ipv4/tcp_syncookies", "0\n")
	m.override("sysctl: {net.ipv4.route.flush: 1, net.ipv4.tcp_syncookies: 1}")
	m.mustApply("sysctl")
	if steps := m.stepsWith("sysctl net.ipv4.route.flush"); len(steps) > 0 {
		t.Errorf("set a key that cannot be read back: %q", steps)
	}
	wantWords(t, m.get(sysctlFile), "net.ipv4.route.flush = 1\n")
	if f := m.check("sysctl"); len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "net.ipv4.route.flush: cannot be read; it is set at boot only") {
		t.Errorf("warnings: %q", f.Warnings)
	}
	m.put("/proc/sys/net/ipv4/tcp_syncookies", "0\n")
	m.wantDifference("sysctl", "net.ipv4.tcp_syncookies")
}

// TestSysctlReportsUnreadableKeys covers a key that the kernel does not print
// before it is set.
func TestSysctlReportsUnreadableKeys(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.mustApply("sysctl")
	m.remove("/proc/sys/net/ipv4/ip_forward")
	m.put("/proc/sys/net/ipv4/ip_forward/not-a-file", "")
	m.put("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n")
	f := m.check("sysctl")
	if len(f.Differences) != 2 || f.Differences[0].Object != "net.ipv4.ip_forward" || f.Differences[1].Object != "net.ipv6.conf.all.disable_ipv6" {
		t.Errorf("differences: %v", f.Differences)
	}
}

// TestSysctlAcceptsAKernelWithoutIPv6 covers ipv6.disable=1.
func TestSysctlAcceptsAKernelWithoutIPv6(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.remove("/proc/sys/net/ipv6")
	m.mustApply("sysctl")
	m.override("sysctl: {net.ipv6.conf.all.forwarding: 1}")
	if d := m.check("sysctl").Differences; !slices.ContainsFunc(d, func(d engine.Difference) bool { return strings.Contains(d.Fix, "ipv6.disable=1") }) {
		t.Errorf("no fix that names ipv6.disable=1: %+v", d)
	}
}

// TestSysctlSetsForwardingFirst: the kernel then resets settings of interfaces.
func TestSysctlSetsForwardingFirst(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put("/proc/sys/net/ipv4/conf/all/accept_redirects", "0\n")
	m.override("sysctl: {net.ipv4.conf.all.accept_redirects: 1}")
	m.mustApply("sysctl")
	steps := m.stepsWith("sysctl ")
	if slices.Index(steps, "sysctl net.ipv4.ip_forward") > slices.Index(steps, "sysctl net.ipv4.conf.all.accept_redirects") {
		t.Errorf("set in the order %q", steps)
	}
	if file := m.get(sysctlFile); strings.Index(file, "ip_forward") > strings.Index(file, "accept_redirects") {
		t.Errorf("set at boot in the order\n%s", file)
	}
}

func TestIgnoredKeysAreWarnings(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	putFile(t, m.root, "/proc/sys/net/netfilter/nf_conntrack_max", "65536\n", 0o444)
	m.override("{sysctl: {net.bridge.bridge-nf-call-iptables: 1}, preflight: {ignore: [sysctl]}}")
	m.mustApply("sysctl")
	f := m.check("sysctl")
	if len(f.Warnings) != 2 {
		t.Fatalf("warnings: %q", f.Warnings)
	}
	wantWords(t, strings.Join(f.Warnings, "\n"), "net.bridge.bridge-nf-call-iptables: the kernel has no such key", "nf_conntrack_max: read-only, 65536, expected 1000000")
}

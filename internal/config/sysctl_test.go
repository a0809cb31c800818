package config

import (
	"strings"
	"testing"
)

// TestNumericSettingRefusesOtherText: the kernel refuses these values with
// "invalid argument" (measured on Linux 6.1).
func TestNumericSettingRefusesOtherText(t *testing.T) {
	for text, hint := range map[string]string{
		"yes": "1", "on": "1", "off": "0", "No": "0", "1_000": "1000", `"+45"`: "45",
		"1.5": "", "1e6": "", "10k": "", "0o17": "", "0b101": "", `"08"`: "", `"0x"`: "", "45x": "", `"--1"`: "", "enabled": "",
	} {
		got := problemLines(t, minimal+"sysctl:\n  net.ipv4.tcp_fin_timeout: "+text+"\n")
		want := "6:29: sysctl.net.ipv4.tcp_fin_timeout: " + quote(strings.Trim(text, `"`)) + " is not a number that the kernel accepts"
		if hint != "" {
			want += " (" + didYouMean(hint) + ")"
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{`""`, `" "`} {
		if got := problemLines(t, minimal+"sysctl: {vm.swappiness: "+text+"}\n"); len(got) != 1 || !strings.Contains(got[0], "has an empty value") {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestOtherValuesThatTheKernelDoesNotTake(t *testing.T) {
	for line, want := range map[string]string{
		"kernel.pid_max: 0b1":                 "is not a number that the kernel accepts",
		"kernel.pid_max: 1_000":               `is not a number that the kernel accepts (did you mean "1000"?)`,
		"vm.swappiness: 0b1":                  "is not a number that the kernel accepts",
		"net.core.somaxconn: 99999999999":     "is too large (the kernel stores 32 bits: at most 4294967295)",
		`kernel.core_pattern: "core "`:        "must not begin or end with a space (remove it)",
		"vm.swappiness: 99999999999999999999": "is not a number that the kernel accepts",
	} {
		got := problemLines(t, minimal+"sysctl:\n  "+line+"\n")
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestSettingsAreAccepted(t *testing.T) {
	for _, line := range []string{
		"net.ipv4.tcp_fin_timeout: 45", "net.ipv4.tcp_fin_timeout: 0x2d", `net.ipv4.tcp_fin_timeout: "055"`, "net.ipv4.tcp_syncookies: true",
		"net.ipv4.tcp_syncookies: 0x1", `net.core.somaxconn: "0010000"`, "net.ipv4.conf.all.rp_filter: 02", "vm.overcommit_memory: -1",
		"net.ipv4.tcp_rmem: 4096 131072 6291456", `net.ipv4.ip_local_port_range: 1024 65000`, "kernel.printk: 4 4 1 7",
		"net.ipv4.ip_local_reserved_ports: 30000-32767,8080,8081", "net.ipv4.tcp_congestion_control: bbr", "net.core.default_qdisc: fq",
		`kernel.core_pattern: "|/usr/bin/collect %P"`, "kernel.printk_devkmsg: on", "net.ipv4.ip_forward: true", `net.ipv4.ip_forward: "0x1"`,
		"net.ipv6.conf.eth0.stable_secret: fe80::1", "fs.file-max: 9223372036854775807", "net.mptcp.scheduler: default", "dev.raid.speed_limit_max: 1",
	} {
		if got := problemLines(t, minimal+"sysctl:\n  "+line+"\n"); got != nil {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// TestForwardingMustBeOn: whatever the notation.
func TestForwardingMustBeOn(t *testing.T) {
	for _, text := range []string{"0", "false", "2", `"00"`, "0x0", "-1"} {
		got := strings.Join(problemLines(t, minimal+"sysctl: {net.ipv4.ip_forward: "+text+"}\n"), "\n")
		if !strings.Contains(got, "must be 1") {
			t.Errorf("%s: %q", text, got)
		}
	}
}

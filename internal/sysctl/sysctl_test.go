package sysctl

import (
	"slices"
	"strings"
	"testing"
)

func TestNumbers(t *testing.T) {
	for value, want := range map[string][]Number{
		"1":                    {{false, 1}},
		"0":                    {{false, 0}},
		"-0":                   {{false, 0}},
		"-1":                   {{true, 1}},
		"0x1":                  {{false, 1}},
		"0X1f":                 {{false, 31}},
		"02":                   {{false, 2}},
		"0010000":              {{false, 4096}},
		"4096\t131072 629145":  {{false, 4096}, {false, 131072}, {false, 629145}},
		"18446744073709551615": {{false, 18446744073709551615}},
	} {
		if got, ok := Numbers(value); !ok || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", value, got, ok, want)
		}
	}
	for _, value := range []string{"", " ", "+45", "1_000", "yes", "on", "1e3", "1.5", "08", "0x", "0b1", "0o17", "1,2", "--1", "-", "- 1", "0x+1", "1k", "18446744073709551616"} {
		if got, ok := Numbers(value); ok {
			t.Errorf("%q: got %v, but the kernel refuses it", value, got)
		}
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		key, want, have string
		same            bool
	}{
		{"net.ipv4.ip_local_reserved_ports", "30000-32767,8080,8081", "8080-8081,30000-32767\n", true},
		{"net.ipv4.ip_local_reserved_ports", "1-5,3-9", "1-9", true},
		{"net.ipv4.ip_local_reserved_ports", "8080", "8080-8081", false},
		{"net.ipv4.ip_local_reserved_ports", "8080", "", false},
		{"net.ipv4.ip_local_reserved_ports", "x", "8080", false},
		{"net.ipv6.icmp.ratemask", "0,1,3-127", "0-1,3-127", true},
		{"net.ipv4.tcp_syncookies", "0x1", "1", true},
		{"net.core.somaxconn", "0010000", "4096", true},
		{"net.core.somaxconn", "0010000", "10000", false},
		{"net.ipv4.conf.all.rp_filter", "02", "2", true},
		{"net.ipv4.tcp_rmem", "4096  131072", "4096\t131072\t6291456", true},
		{"net.ipv4.tcp_rmem", "4096 131072 6291456 1", "4096\t131072\t6291456", false},
		{"net.ipv4.tcp_rmem", "4096 1", "4096 131072 6291456", false},
		{"kernel.printk", "3", "3 4 1 7", true},
		{"kernel.printk", "4", "3 4 1 7", false},
		{"kernel.core_pattern", "core", "core", true},
		{"kernel.core_pattern", "Core", "core", false},
		{"dev.raid.speed_limit_max", "01", "1", true}, // a key of unknown form with numbers only
		{"net.ipv4.tcp_congestion_control", "reno", "cubic", false},
		{"net.core.default_qdisc", "1", "01", false},
		{"net.ipv4.tcp_allowed_congestion_control", "bbr reno", "reno bbr", true},
		{"net.ipv4.tcp_allowed_congestion_control", "bbr", "reno bbr", false},
		{"net.core.rps_default_mask", "f", "00000000,0000000f", true},
		{"net.core.rps_default_mask", "e", "0f", false},
		{"net.ipv4.neigh.default.base_reachable_time_ms", "30001", "30000", true},
		{"net.ipv4.neigh.default.base_reachable_time_ms", "30010", "30000", false},
		{"net.ipv4.neigh.default.base_reachable_time_ms", "29999", "30000", false},
		{"net.netfilter.nf_conntrack_max", "1000000", "65536", false},
		{"net.ipv4.ip_forward", "yes", "1", false},
		{"net.ipv6.conf.eth0.stable_secret", "::1", "0000:0000:0000:0000:0000:0000:0000:0001", true},
		{"net.ipv6.conf.eth0.stable_secret", "::2", "0000:0000:0000:0000:0000:0000:0000:0001", false},
	} {
		if got := Same(c.key, c.want, c.have); got != c.same {
			t.Errorf("%s: %q and %q: got %v", c.key, c.want, c.have, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       Problem
	}{
		{"net.ipv4.ip_forward", "yes", NotNumber},
		{"vm.swappiness", "0b1", NotNumber},
		{"vm.swappiness", "99999999999999999999", NotNumber},
		{"vm.swappiness", "10 ", None}, // the kernel skips white space around numbers
		{"vm.min_free_kbytes", "8589934592", None},
		{"kernel.pid_max", "0b1", NotNumber},
		{"kernel.pid_max", "1_000", NotNumber},
		{"kernel.pid_max", "+5", NotNumber},
		{"kernel.pid_max", "18446744073709551616", NotNumber},
		{"kernel.pid_max", " 4194304 ", None},
		{"kernel.shmmax", "18446744073692774399", None},
		{"kernel.core_pattern", "core", None},
		{"kernel.core_pattern", "1core", None},
		{"kernel.core_pattern", "core ", Spaces},
		{"kernel.hostname", "3com.example.org", None},
		{"kernel.printk_devkmsg", "on\t", Spaces},
		{"kernel.seccomp.actions_logged", "kill_process errno", None},
		{"net.ipv4.tcp_congestion_control", " bbr", Spaces},
		{"net.core.default_qdisc", "fq", None},
		{"net.core.somaxconn", "4294967296", TooLarge},
		{"net.core.somaxconn", "0x100000000", TooLarge},
		{"net.core.somaxconn", "4294967295", None},
		{"net.ipv4.tcp_rmem", "4096 131072 99999999999", TooLarge},
		{"net.ipv4.conf.all.rp_filter", "-2147483648", None},
		{"net.ipv4.conf.all.rp_filter", "-2147483649", TooLarge},
		{"net.ipv4.tcp_mem", "1 2 99999999999", None},
		{"net.ipv4.ipfrag_high_thresh", "8589934592", None},
		{"net.netfilter.nf_conntrack_frag6_high_thresh", "8589934592", None},
		{"net.netfilter.nf_conntrack_max", "8589934592", TooLarge},
		{"net.ipv4.ip_local_reserved_ports", "1-3,7", None},
		{"fs.file-max", "9223372036854775807", None},
		{"dev.raid.speed_limit_max", "fast", None}, // a key of unknown form
		{"net.mptcp.scheduler", "default", None},
	} {
		if got := Check(c.key, c.value); got != c.want {
			t.Errorf("%s=%q: got %d, want %d", c.key, c.value, got, c.want)
		}
	}
}

func TestSortSetsGeneralKeysFirst(t *testing.T) {
	keys := []string{"net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.aaa.rp_filter", "net.ipv4.conf.default.rp_filter", "net.ipv4.ip_forward"}
	Sort(keys)
	if got := strings.Join(keys, " "); got != "net.ipv4.ip_forward net.ipv4.conf.all.accept_redirects net.ipv4.conf.default.rp_filter net.ipv4.conf.aaa.rp_filter" {
		t.Error(got)
	}
}

// FuzzSame checks that every value means the same as itself, and that the order
// of items in a list does not matter.
func FuzzSame(f *testing.F) {
	for _, s := range []string{"1", "0x1 2", "1-3,7", "a b", "ffff,0000", "", "-1\t08", "4294967296-1"} {
		f.Add(s, "30000")
	}
	f.Fuzz(func(t *testing.T, value, other string) {
		for key, form := range map[string]form{"net.ipv4.ip_forward": numeric, "net.ipv6.icmp.ratemask": ranges, "kernel.seccomp.actions_logged": words, "net.core.rps_default_mask": mask, "kernel.x": unknown} {
			if !Same(key, value, value) {
				t.Errorf("%s: %q differs from itself", key, value)
			}
			if form == numeric || form == ranges {
				_, a := Numbers(value)
				_, b := Numbers(other)
				if a && b && len(value) < 20 && len(other) < 20 && Same(key, value, other) != Same(key, other, value) && len(strings.Fields(value)) == len(strings.Fields(other)) {
					t.Errorf("%s: %q and %q are not symmetric", key, value, other)
				}
			}
		}
		if a, ok := parseRanges(value); ok {
			if b, ok := parseRanges(other); ok {
				both, _ := parseRanges(value + "," + other)
				reversed, _ := parseRanges(other + "," + value)
				if !slices.Equal(both, reversed) {
					t.Errorf("%v and %v: the order matters: %v, %v", a, b, both, reversed)
				}
			}
		}
	})
}

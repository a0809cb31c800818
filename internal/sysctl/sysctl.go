// Package sysctl knows how the kernel reads and prints the values of its
// settings (/proc/sys). It does not access the machine.
package sysctl

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Number is a number as the kernel reads it.
type Number struct {
	Negative bool
	Value    uint64
}

// Numbers parses numbers that are separated by spaces or tabs, with the kernel's
// rules (proc_get_long): an optional minus sign and decimal, octal (leading 0) or
// hexadecimal (0x) digits. It returns false if the kernel does not accept value.
func Numbers(value string) ([]Number, bool) {
	fields := strings.Fields(value)
	numbers := make([]Number, len(fields))
	for i, f := range fields {
		digits, negative := strings.CutPrefix(f, "-")
		base := 10
		if hex, ok := strings.CutPrefix(strings.ToLower(digits), "0x"); ok {
			digits, base = hex, 16
		} else if len(digits) > 1 && digits[0] == '0' {
			base = 8
		}
		n, err := strconv.ParseUint(digits, base, 64)
		if err != nil || digits[0] == '+' {
			return nil, false
		}
		numbers[i] = Number{Negative: negative && n > 0, Value: n}
	}
	return numbers, len(numbers) > 0
}

// Normalize returns a value with one space between its fields.
func Normalize(value string) string { return strings.Join(strings.Fields(value), " ") }

// form is the form of a key's value.
type form int

const (
	unknown form = iota
	numeric
	text
	ranges // a list of numbers and ranges: 1-3,7
	words  // a set of words
	mask   // hexadecimal digits, with a comma every eight
	address
)

// forms lists the keys whose form is not that of their directory. In a pattern,
// an asterisk matches one part.
var forms = map[string]form{
	"net.core.default_qdisc":                  text,
	"net.core.flow_limit_cpu_bitmap":          mask,
	"net.core.rps_default_mask":               mask,
	"net.core.netdev_rss_key":                 text,
	"net.ipv4.ip_local_reserved_ports":        ranges,
	"net.ipv4.tcp_allowed_congestion_control": words,
	"net.ipv4.tcp_congestion_control":         text,
	"net.ipv4.tcp_fastopen_key":               text,
	"net.ipv6.conf.*.stable_secret":           address,
	"net.ipv6.icmp.ratemask":                  ranges,
	"net.netfilter.nf_log.*":                  text,
	"vm.numa_zonelist_order":                  text,
	"kernel.seccomp.actions_logged":           words,
	"kernel.watchdog_cpumask":                 ranges,
	"fs.binfmt_misc.*":                        text,
	"kernel.core_pattern":                     text,
	"kernel.hostname":                         text,
	"kernel.domainname":                       text,
	"kernel.modprobe":                         text,
	"kernel.hotplug":                          text,
	"kernel.poweroff_cmd":                     text,
	"kernel.printk_devkmsg":                   text,
	"kernel.spl.hostid":                       text, // of OpenZFS: hexadecimal digits
	"dev.cdrom.info":                          text,
	"sunrpc.transports":                       text,
}

// formOf returns the form of a key's value. The keys of kernel.* and of drivers
// have no common form.
func formOf(key string) form {
	parts := strings.Split(key, ".")
	for pattern, f := range forms {
		if slices.EqualFunc(strings.Split(pattern, "."), parts, func(p, part string) bool { return p == "*" || p == part }) {
			return f
		}
	}
	for _, directory := range []string{"net.ipv4.", "net.ipv6.", "net.core.", "net.netfilter.", "net.bridge.", "net.unix.", "vm.", "fs."} {
		if strings.HasPrefix(key, directory) {
			return numeric
		}
	}
	return unknown
}

// Same reports whether the kernel means the same by both values of key: by want,
// which is to be set, and by have, which the kernel printed.
func Same(key, want, have string) bool {
	want, have = Normalize(want), Normalize(have)
	if want == have {
		return true
	}
	switch formOf(key) {
	case text:
		return false
	case ranges:
		a, okA := parseRanges(want)
		b, okB := parseRanges(have)
		return okA && okB && slices.Equal(a, b)
	case words:
		return slices.Equal(sortedWords(want), sortedWords(have))
	case address:
		a, errA := netip.ParseAddr(want)
		b, errB := netip.ParseAddr(have)
		return errA == nil && errB == nil && a == b
	case mask:
		return trimMask(want) == trimMask(have)
	}
	a, okA := Numbers(want)
	b, okB := Numbers(have)
	// The kernel sets only as many numbers of a list as are written.
	return okA && okB && len(a) <= len(b) && slices.EqualFunc(a, b[:len(a)], func(x, y Number) bool { return sameNumber(key, x, y) })
}

// tick is the longest tick of a kernel (HZ=100), in milliseconds. The kernel
// stores a duration in ticks and so rounds it down.
const tick = 10

func sameNumber(key string, want, have Number) bool {
	if strings.HasSuffix(key, "_ms") && !want.Negative && !have.Negative {
		return have.Value <= want.Value && want.Value-have.Value < tick
	}
	return want == have
}

func sortedWords(s string) []string {
	list := strings.Fields(s)
	slices.Sort(list)
	return slices.Compact(list)
}

func trimMask(s string) string {
	return strings.TrimLeft(strings.ToLower(strings.ReplaceAll(s, ",", "")), "0")
}

// parseRanges parses 30000-32767,8080 into merged ranges in ascending order.
func parseRanges(s string) ([][2]uint64, bool) {
	var all [][2]uint64
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 32)
		b, errB := strconv.ParseUint(last, 10, 32)
		if errA != nil || errB != nil || a > b {
			return nil, false
		}
		all = append(all, [2]uint64{a, b})
	}
	slices.SortFunc(all, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	var merged [][2]uint64
	for _, r := range all {
		if n := len(merged); n > 0 && r[0] <= merged[n-1][1]+1 {
			merged[n-1][1] = max(merged[n-1][1], r[1])
			continue
		}
		merged = append(merged, r)
	}
	return merged, true
}

// Sort sorts keys into the order in which they must be set. Some keys change
// others: net.ipv4.ip_forward resets settings of all interfaces, and
// conf.all sets those of each interface.
func Sort(keys []string) {
	rank := func(key string) int {
		switch {
		case key == "net.ipv4.ip_forward":
			return 0
		case strings.Contains(key, ".all."):
			return 1
		case strings.Contains(key, ".default."):
			return 2
		}
		return 3
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
}

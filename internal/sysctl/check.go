package sysctl

import (
	"math"
	"path"
	"strings"
)

// Problem is why the kernel does not take a value as it is written.
type Problem int

// The problems.
const (
	None      Problem = iota
	NotNumber         // the kernel accepts only numbers
	TooLarge          // the kernel stores 32 bits
	Spaces            // text that begins or ends with white space
)

// Check reports why the kernel would refuse or change a value of key. It accepts
// every text for a key whose form is not known, unless the text begins like a
// number.
func Check(key, value string) Problem {
	numbers, ok := Numbers(value)
	switch f := formOf(key); {
	case !ok && (f == numeric || f == unknown && beginsLikeNumber(value)):
		return NotNumber
	case ok && f == numeric && has32Bits(key) && !all32Bits(numbers):
		return TooLarge
	case !ok && value != strings.TrimSpace(value):
		// systemd-sysctl removes it at boot, and the kernel keeps it now.
		return Spaces
	}
	return None
}

// beginsLikeNumber reports whether a value is meant as a number: it begins with a
// digit, perhaps after a sign.
func beginsLikeNumber(value string) bool {
	value = strings.TrimLeft(value, "+- \t")
	return value != "" && value[0] >= '0' && value[0] <= '9'
}

// has32Bits reports whether the kernel stores the numbers of key in 32 bits: all
// of the network, except limits on memory (proc_doulongvec_minmax).
func has32Bits(key string) bool {
	if !strings.HasPrefix(key, "net.") {
		return false
	}
	for _, pattern := range []string{"net.ipv4.tcp_mem", "net.ipv4.udp_mem", "net.*frag*_thresh", "net.core.bpf_jit_limit"} {
		if match, err := path.Match(pattern, key); err == nil && match {
			return false
		}
	}
	return true
}

func all32Bits(numbers []Number) bool {
	for _, n := range numbers {
		if n.Value > math.MaxUint32 || n.Negative && n.Value > -math.MinInt32 {
			return false
		}
	}
	return true
}

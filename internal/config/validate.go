package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validator checks the merged configuration for values that cannot work on any
// machine.
type validator struct {
	cfg      *Config
	layer    layer
	unpinned bool // artifacts need no digest
	// commonName reads the CN of a certificate; nil: certificates are not read.
	commonName func(path string) (string, error)
	problems   Problems
	warnings   Problems
}

// validate returns the configuration of a merged layer with all its problems
// and warnings.
func validate(l layer, o Options) (*Config, Problems, Problems) {
	v := &validator{cfg: l.config(), layer: l, unpinned: o.Unpinned, commonName: o.CommonName}
	v.allowed()
	v.etcd()
	v.host()
	v.sysctl()
	v.artifacts()
	v.image()
	v.docker()
	v.environments()
	v.pool()
	v.run()
	v.ipv6()
	return v.cfg, v.problems, v.warnings
}

// fail reports a problem at the position of a key's value.
func (v *validator) fail(path, message, hint string) {
	v.problems = append(v.problems, v.layer[path].at.problem(path, message, hint))
}

// failItem reports a problem at the position of a list item.
func (v *validator) failItem(path string, i int, message, hint string) {
	at := v.layer[path].at
	if items := v.layer[path].items; i < len(items) {
		at = items[i]
	}
	v.problems = append(v.problems, at.problem(path, message, hint))
}

// warn reports a warning at the position of a key's value.
func (v *validator) warn(path, message, hint string) {
	v.warnings = append(v.warnings, v.layer[path].at.problem(path, message, hint))
}

// allowed checks the keys for which the schema lists the allowed values.
func (v *validator) allowed() {
	for _, k := range schema() {
		if k.values == nil {
			continue
		}
		switch p := k.field(v.cfg).(type) {
		case *string:
			if !slices.Contains(k.values, *p) && (k.path != "pool.ipip" || !isVXLAN(*p)) {
				v.fail(k.path, "must be "+orList(k.values)+", not "+quote(*p), suggest(*p, k.values))
			}
		case *[]string:
			for i, item := range *p {
				if !slices.Contains(k.values, item) {
					hint := suggest(item, k.values)
					if hint == "" {
						hint = "one of " + strings.Join(k.values, ", ")
					}
					v.failItem(k.path, i, "unknown value "+quote(item), hint)
				}
			}
		}
	}
}

// orList joins words as in "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// run checks the keys that configure a run.
func (v *validator) run() {
	c := v.cfg
	if c.BGP.Topology == TopologyReflectors || c.BGP.Topology == TopologyAuto {
		v.fail("bgp.topology", quote(c.BGP.Topology)+" is not supported by this version", "use mesh")
	}
	if c.Fleet.MaxJoining < 1 {
		v.fail("fleet.maxJoining", "must be at least 1", "")
	}
	for _, path := range []string{"fleet.report", "fleet.maxJoining"} {
		if from := v.layer[path].at.source; from != defaultSource && from != effectiveSource {
			v.warn(path, "has no effect in this version", "it is reserved for firstboot fleet")
		}
	}
	v.checkURL("report.url", c.Report.URL, "http", "https")
	v.checkURL("proxy.http", c.Proxy.HTTP, "http", "https", "socks5")
	v.checkURL("proxy.https", c.Proxy.HTTPS, "http", "https", "socks5")
	v.timeout("report.waitingAfter", c.Report.WaitingAfter, "no report")
	v.timeout("timeouts.download", c.Timeouts.Download, "")
	v.timeout("timeouts.node", c.Timeouts.Node, "")
	v.timeout("timeouts.total", c.Timeouts.Total, "no limit")
}

// timeout checks a duration of at least a second. zero is the meaning of 0, or
// "" if 0 is not allowed.
func (v *validator) timeout(path string, d time.Duration, zero string) {
	switch {
	case d < 0:
		v.fail(path, "must not be negative", "")
	case d >= time.Second || d == 0 && zero != "":
	case zero != "":
		v.fail(path, "must be at least 1s, or 0 for "+zero, "")
	default:
		v.fail(path, "must be at least 1s", "")
	}
}

// label matches one lower-case label of an RFC 1123 name.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkDNSName returns why a name is not a lower-case RFC 1123 name of at most
// limit characters, or "" if it is.
func checkDNSName(name string, limit int) string {
	switch {
	case name == "":
		return "must not be empty"
	case len(name) > limit:
		return "is longer than " + strconv.Itoa(limit) + " characters"
	case name != strings.ToLower(name):
		return "must be in lower case"
	}
	for part := range strings.SplitSeq(name, ".") {
		if !label.MatchString(part) {
			return quote(name) + " is not an RFC 1123 name: only letters, digits and hyphens, and no label may begin or end with a hyphen"
		}
	}
	return ""
}

// checkPort returns an error if s is not a TCP port.
func checkPort(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || !isDecimal(s) {
		return fmt.Errorf("%s is not a port", quote(s))
	}
	return nil
}

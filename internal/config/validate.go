package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validator judges the merged configuration: what no machine could make work.
type validator struct {
	cfg      *Config
	layer    layer
	unpinned bool // artifacts may lack their sums
	problems Problems
	warnings Problems
}

// validate finds everything wrong with the values of a merged layer.
func validate(l layer, unpinned bool) (*Config, Problems, Problems) {
	v := &validator{cfg: l.config(), layer: l, unpinned: unpinned}
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
	return v.cfg, v.problems, v.warnings
}

// fail reports a problem at the value of path.
func (v *validator) fail(path, message, hint string) {
	v.problems = append(v.problems, v.layer[path].at.problem(cutSecret(path), message, hint))
}

// failItem reports a problem at an item of a list.
func (v *validator) failItem(path string, i int, message, hint string) {
	at := v.layer[path].at
	if items := v.layer[path].items; i < len(items) {
		at = items[i]
	}
	v.problems = append(v.problems, at.problem(path, message, hint))
}

func (v *validator) warn(path, message, hint string) {
	v.warnings = append(v.warnings, v.layer[path].at.problem(path, message, hint))
}

// allowed compares with the lists of values in the schema.
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
					v.failItem(k.path, i, quote(item)+" is not known", hint)
				}
			}
		}
	}
}

// either joins words as in "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// sysctlSegment is a part of a kernel setting's name. As in sysctl(8), a slash
// stands for a dot within it (an interface eth0.5 is eth0/5).
var sysctlSegment = regexp.MustCompile(`^[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*$`)

// sysctl keeps the keys below /proc/sys.
func (v *validator) sysctl() {
	for _, name := range sortedNames(v.cfg.Sysctl) {
		path := joinPath("sysctl", name)
		parts := strings.Split(name, ".")
		bad := slices.ContainsFunc(parts, func(p string) bool { return !sysctlSegment.MatchString(p) })
		switch {
		case bad || len(parts) < 2:
			hint := "write it as net.ipv4.ip_forward"
			if dotted := strings.ReplaceAll(strings.TrimPrefix(name, "/proc/sys/"), "/", "."); dotted != name && !strings.Contains(dotted, "..") {
				hint = didYouMean(strings.Trim(dotted, "."))
			}
			v.fail(path, "is not the name of a kernel setting", hint)
		case v.cfg.Sysctl[name] == "":
			v.fail(path, "has an empty value", "write one, or remove the key")
		case name == "net.ipv4.ip_forward" && v.cfg.Sysctl[name] != "1":
			v.fail(path, "must be 1: Calico forwards at layer 3", "remove the key")
		}
	}
}

// run checks what steers a run, not a machine.
func (v *validator) run() {
	c := v.cfg
	if c.BGP.Topology == TopologyReflectors || c.BGP.Topology == TopologyAuto {
		v.fail("bgp.topology", quote(c.BGP.Topology)+" is not available in this version", "only mesh is")
	}
	if c.Fleet.MaxJoining < 1 {
		v.fail("fleet.maxJoining", "must be at least 1", "")
	}
	for _, path := range []string{"fleet.report", "fleet.maxJoining"} {
		if from := v.layer[path].at.source; from != "default" && from != effectiveSource {
			v.warn(path, "is accepted and has no effect yet", "it is meant for firstboot fleet, which this version does not have")
		}
	}
	v.checkURL("report.url", c.Report.URL, "http", "https")
	v.checkURL("proxy.http", c.Proxy.HTTP, "http", "https", "socks5")
	v.checkURL("proxy.https", c.Proxy.HTTPS, "http", "https", "socks5")
	v.timeout("timeouts.download", c.Timeouts.Download, time.Second)
	v.timeout("timeouts.node", c.Timeouts.Node, time.Second)
	v.timeout("timeouts.total", c.Timeouts.Total, 0)
}

func (v *validator) timeout(path string, d, least time.Duration) {
	switch {
	case d < 0:
		v.fail(path, "must not be negative", "")
	case d < least:
		v.fail(path, "must be at least "+least.String(), "")
	case path == "timeouts.total" && d > 0 && d < time.Second:
		v.fail(path, "must be at least 1s, or 0 for no limit", "")
	}
}

// label is one part of a name by RFC 1123, lower case.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// subdomain is why a name is not lower-case RFC 1123 of at most limit
// characters; empty if it is.
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
			return quote(name) + " is not a name of RFC 1123: letters, digits and hyphens, no part beginning or ending with a hyphen"
		}
	}
	return ""
}

// port tells whether s is a TCP port.
func checkPort(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || !isDecimal(s) {
		return fmt.Errorf("%s is not a port", quote(s))
	}
	return nil
}

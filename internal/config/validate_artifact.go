package config

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// artifacts checks where the three artifacts come from, and that nothing is
// installed unverified.
func (v *validator) artifacts() {
	c := v.cfg
	v.artifact("calicoctl", c.Calicoctl.URL, c.Calicoctl.SHA256, false)
	v.artifact("node", c.Node.URL, c.Node.SHA256, false)
	v.artifact("minions", c.Minions.URL, c.Minions.SHA256, c.Minions.SignedBy != "")
	if key := c.Minions.SignedBy; key != "" && !cleanAbsolute(key) {
		v.fail("minions.signedBy", "must be the absolute path of a public key", "")
	}
	if message, hint := checkVersion(c.Calicoctl.Version); message != "" {
		v.fail("calicoctl.version", message, hint)
	}
}

func (v *validator) artifact(name string, from URL, sum string, signed bool) {
	v.checkURL(name+".url", from, "http", "https", "file")
	if from != "" && sum == "" && !signed && !v.unpinned {
		hint := "set " + name + ".sha256"
		if name == "minions" {
			hint += " or minions.signedBy"
		}
		v.fail(name+".url", "nothing says what it must contain", hint)
	}
	if message, hint := checkDigest(sum); sum != "" && message != "" {
		v.fail(name+".sha256", message, hint)
	}
}

// checkSum says why s is not a SHA-256 as this configuration writes it.
func checkDigest(s string) (message, hint string) {
	lower := strings.ToLower(strings.TrimPrefix(s, "sha256:"))
	isHex := strings.Trim(lower, "0123456789abcdef") == ""
	switch {
	case isHex && len(lower) == 64 && lower == s:
		return "", ""
	case isHex && len(lower) == 64:
		return "must be 64 hexadecimal digits in lower case, nothing else", didYouMean(lower)
	case !isHex:
		return "must be 64 hexadecimal digits", ""
	}
	message = fmt.Sprintf("must be 64 hexadecimal digits, not %d", len(lower))
	switch len(lower) {
	case 32:
		hint = "this looks like an MD5"
	case 40:
		hint = "this looks like a SHA-1"
	case 128:
		hint = "this looks like a SHA-512"
	}
	return message, hint
}

// location checks a URL, or a plain path where the scheme file is allowed. It
// never repeats the URL, which may hold a password.
func (v *validator) checkURL(key string, location URL, schemes ...string) {
	raw := location.Reveal()
	if raw == "" {
		return
	}
	files := slices.Contains(schemes, "file")
	if strings.HasPrefix(raw, "/") && files {
		if !cleanAbsolute(raw) {
			v.fail(key, "is not a clean path", didYouMean(path.Clean(raw)))
		}
		return
	}
	if files {
		schemes = append(schemes, "an absolute path")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		v.fail(key, "is not a URL", "")
	case !slices.Contains(schemes, u.Scheme):
		v.fail(key, "must begin with "+orList(schemes), "")
	case u.Scheme == "file" && (u.Host != "" || !cleanAbsolute(u.Path)):
		v.fail(key, "must be file:/// and an absolute path", "")
	case u.Scheme == "file":
	case u.Hostname() == "" || u.Opaque != "":
		v.fail(key, "names no host", "")
	case u.Port() != "" && checkPort(u.Port()) != nil:
		v.fail(key, "has a port that does not exist", "")
	case strings.Contains(raw, " "):
		v.fail(key, "holds a space", "write %20")
	}
}

func cleanAbsolute(p string) bool { return path.IsAbs(p) && path.Clean(p) == p && p != "/" }

// release is a Calico version as releases are named.
var release = regexp.MustCompile(`^v(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})$`)

// checkVersion wants a release of Calico that stores by etcd's v3 protocol in
// the way that this firstboot writes: series 3 from v3.1 on.
func checkVersion(s string) (message, hint string) {
	m := release.FindStringSubmatch(s)
	if m == nil {
		if release.MatchString("v" + s) {
			hint = didYouMean("v" + s)
		}
		return quote(s) + " is not a release such as v3.23.0", hint
	}
	minor, _ := strconv.Atoi(m[2])
	if m[1] != "3" || minor < 1 {
		return quote(s) + " cannot be driven", "v3.1.0 or a later v3"
	}
	return "", ""
}

// image checks the reference of the calico-node image, and warns where what
// runs will be what a registry's tag means that day.
func (v *validator) image() {
	c := v.cfg.Node
	named, err := reference.ParseNormalizedNamed(c.Image)
	if err != nil {
		hint := ""
		if lower := strings.ToLower(c.Image); lower != c.Image {
			hint = didYouMean(lower)
		}
		v.fail("node.image", quote(c.Image)+" is not the name of an image", hint)
		return
	}
	_, byDigest := named.(reference.Digested)
	_, byTag := named.(reference.Tagged)
	archive := c.URL != "" || c.SHA256 != ""
	switch {
	case !byDigest && !byTag:
		v.fail("node.image", quote(c.Image)+" has neither a tag nor a digest", "pin it, such as calico/node:v3.23.0")
	case byDigest && archive:
		v.fail("node.image", "an image that comes from an archive has no digest in Docker", "name it by its tag")
	case !byDigest && !archive:
		v.warn("node.image", quote(c.Image)+" is pulled by its tag: nothing verifies what it is today", "use a digest, or node.url with node.sha256")
	}
	if c.ASNumber == 0 {
		v.fail("node.asNumber", "must be from 1 to 4294967295", "64512 to 65534 are for private use")
	}
}

// variable is the name of an environment variable.
var variable = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// environments checks the variables that are added to the two daemons.
func (v *validator) environments() {
	v.environment("node.environment", v.cfg.Node.Environment, reservedByNode)
	v.environment("minions.environment", v.cfg.Minions.Environment, reservedByMinions)
}

func (v *validator) environment(path string, env map[string]Secret, owned func(string) string) {
	for _, name := range sortedNames(env) {
		if !variable.MatchString(name) {
			hint := "upper-case letters, digits and _"
			if upper := strings.ToUpper(name); variable.MatchString(upper) {
				hint = didYouMean(upper)
			}
			v.fail(joinPath(path, name), "is not the name of a variable", hint)
		} else if hint := owned(name); hint != "" {
			v.fail(joinPath(path, name), "is set by firstboot itself", hint)
		}
	}
}

// ownedByNode tells where a variable that firstboot gives to calico-node is
// set instead; empty for any other.
func reservedByNode(name string) string {
	switch {
	case name == "NODENAME" || name == "HOSTNAME":
		return "set host.name"
	case name == "IP" || name == "IP_AUTODETECTION_METHOD":
		return "set host.address"
	case name == "AS":
		return "set node.asNumber"
	case strings.HasPrefix(name, "ETCD_") || name == "DATASTORE_TYPE" || name == "FELIX_DATASTORETYPE" || strings.HasPrefix(name, "FELIX_ETCD"):
		return "set etcd.endpoints"
	case name == "NO_DEFAULT_POOLS" || strings.HasPrefix(name, "CALICO_IPV4POOL_"):
		return "set pool.*"
	case name == "CALICO_NETWORKING_BACKEND" || name == "CALICO_LIBNETWORK_ENABLED":
		return "routes go by BIRD, Docker by eru-minions"
	case name == "FELIX_HEALTHENABLED" || name == "FELIX_HEALTHPORT" || name == "FELIX_HEALTHHOST":
		return "its readiness is asked there"
	}
	return ""
}

// ownedByMinions is the same for eru-minions.
func reservedByMinions(name string) string {
	switch {
	case name == "HOSTNAME":
		return "the plugin must use the machine's host name"
	case strings.HasPrefix(name, "ETCD_"):
		return "set etcd.endpoints"
	}
	return ""
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

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

	"github.com/projecteru2/firstboot/internal/secret"
)

// artifacts checks the sources of the three artifacts, and that each artifact
// can be verified.
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

func (v *validator) artifact(name string, from secret.URL, digest string, signed bool) {
	v.checkURL(name+".url", from, "http", "https", "file")
	if from != "" && digest == "" && !signed && !v.unpinned {
		message := "needs " + name + ".sha256"
		if name == "minions" {
			message += " or minions.signedBy"
		}
		v.fail(name+".url", message, "")
	}
	if message, hint := checkDigest(digest); digest != "" && message != "" {
		v.fail(name+".sha256", message, hint)
	}
}

// checkDigest returns why s is not a sha256 digest, or "" if it is.
func checkDigest(s string) (message, hint string) {
	lower := strings.ToLower(strings.TrimPrefix(s, "sha256:"))
	isHex := strings.Trim(lower, "0123456789abcdef") == ""
	switch {
	case isHex && len(lower) == 64 && lower == s:
		return "", ""
	case isHex && len(lower) == 64:
		return "must be 64 hexadecimal digits in lower case, without a prefix", didYouMean(lower)
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

// checkURL checks a URL, or a path if the scheme file is allowed. Messages do not
// contain the URL, because it may contain a password.
func (v *validator) checkURL(key string, location interface{ Reveal() string }, schemes ...string) {
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
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		v.fail(key, "is not a URL", "")
	case !slices.Contains(schemes, u.Scheme):
		v.fail(key, mustBegin(schemes, files), "")
	case u.Scheme == "file" && (u.Host != "" || !cleanAbsolute(u.Path)):
		v.fail(key, "must be file:// followed by an absolute path", "")
	case u.Scheme == "file":
	case u.Hostname() == "" || u.Opaque != "":
		v.fail(key, "has no host", "")
	case u.Port() != "" && checkPort(u.Port()) != nil:
		v.fail(key, "has an invalid port", "")
	case strings.Contains(raw, " "):
		v.fail(key, "contains a space", "write %20")
	}
}

// mustBegin returns the message for a URL with another scheme.
func mustBegin(schemes []string, allowPath bool) string {
	var prefixes []string
	for _, scheme := range schemes {
		prefixes = append(prefixes, scheme+"://")
	}
	message := "must begin with " + orList(prefixes)
	if allowPath {
		message += ", or be an absolute path"
	}
	return message
}

func cleanAbsolute(p string) bool { return path.IsAbs(p) && path.Clean(p) == p && p != "/" }

// release matches the name of a Calico release.
var release = regexp.MustCompile(`^v(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})$`)

// checkVersion accepts v3.1.0 and later v3 releases. They store their data in
// etcd v3, in the format that firstboot reads and writes.
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
		return quote(s) + " is not supported", "use v3.1.0 or a later v3 release"
	}
	return "", ""
}

// image checks the reference of the calico-node image. It warns if the image is
// pulled by a tag, which a registry can change at any time.
func (v *validator) image() {
	c := v.cfg.Node
	named, err := reference.ParseNormalizedNamed(c.Image)
	if err != nil {
		hint := ""
		if lower := strings.ToLower(c.Image); lower != c.Image {
			hint = didYouMean(lower)
		}
		if strings.Contains(c.Image, "://") || strings.Contains(strings.ReplaceAll(c.Image, "@sha256:", ""), "@") {
			v.fail("node.image", "is not an image reference", "write it without a scheme, user and password, such as calico/node:v3.23.0")
			return
		}
		v.fail("node.image", quote(c.Image)+" is not an image reference", hint)
		return
	}
	_, byDigest := named.(reference.Digested)
	_, byTag := named.(reference.Tagged)
	archive := c.URL != "" || c.SHA256 != ""
	switch {
	case !byDigest && !byTag:
		v.fail("node.image", quote(c.Image)+" has neither a tag nor a digest", "add a tag, such as calico/node:v3.23.0")
	case byDigest && archive:
		v.fail("node.image", "an image from an archive has no digest in Docker", "use a tag")
	case !byDigest && !archive:
		v.warn("node.image", quote(c.Image)+" is pulled by tag and cannot be verified", "use a digest, or node.url with node.sha256")
	}
	if c.ASNumber == 0 {
		v.fail("node.asNumber", "must be from 1 to 4294967295", "64512 to 65534 are for private use")
	}
}

// environments checks the variables for the two daemons.
func (v *validator) environments() {
	v.environment("node.environment", v.cfg.Node.Environment, reservedByNode)
	v.environment("minions.environment", v.cfg.Minions.Environment, reservedByMinions)
}

// environment checks the variables of one daemon. For a variable that firstboot
// sets, reserved returns a hint; for others it returns "".
func (v *validator) environment(path string, env map[string]secret.Value, reserved func(string) string) {
	for _, name := range sortedNames(env) {
		if hint := reserved(name); hint != "" {
			v.fail(joinPath(path, name), "is set by firstboot", hint)
		}
	}
}

// reservedByNode returns a hint for a variable that firstboot sets for
// calico-node, or "".
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
		return "set the keys of the section pool"
	case name == "CALICO_NETWORKING_BACKEND" || name == "CALICO_LIBNETWORK_ENABLED":
		return "firstboot uses BIRD for routes and eru-minions for Docker"
	case name == "FELIX_HEALTHENABLED" || name == "FELIX_HEALTHPORT" || name == "FELIX_HEALTHHOST":
		return "firstboot needs it for the readiness check"
	}
	return ""
}

// reservedByMinions returns a hint for a variable that firstboot sets for
// eru-minions, or "".
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

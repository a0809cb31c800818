package config

import (
	"regexp"
	"slices"
	"strings"
)

// A key may be a mistyped pair of a name and a secret, such as NAME:SECRET or
// NAME=SECRET. So a message quotes a key only if it has the form of a name.

// maxName limits the name of a sysctl or variable, in bytes. Linux limits a
// path to 4096 bytes and each name in it to 255.
const maxName = 512

// segment is sysctlSegment without anchors. It does not begin with "-", which in
// sysctl.d(5) means that errors are ignored: the line would set the key without
// the prefix, past every check.
const segment = `[A-Za-z0-9_@][A-Za-z0-9_@-]*(/[A-Za-z0-9_@-]+)*`

var (
	// variable matches the name of an environment variable.
	variable = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)
	// sysctlSegment matches one part of a kernel setting's name. As in
	// sysctl(8), a slash replaces a dot within a part: the interface eth0.5 is
	// written eth0/5.
	sysctlSegment = regexp.MustCompile(`^` + segment + `$`)
	// sysctlLike matches what is meant as the name of a kernel setting.
	sysctlLike = regexp.MustCompile(`^[A-Za-z0-9_@./ -]+$`)
	// keyLike matches what is meant as a key of the configuration.
	keyLike = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_. -]{0,63}$`)
	// keyWord matches what is certainly not a secret: words without digits.
	keyWord = regexp.MustCompile(`^[A-Za-z_. -]{1,32}$`)
)

// checkName returns why name cannot be an entry of this key, or nil.
func (k key) checkName(name string) *valueError {
	if k.path == "sysctl" {
		return checkSysctlName(name)
	}
	if !variable.MatchString(name) || len(name) > maxName {
		return &valueError{"contains a key that is not a variable name", "use only upper-case letters, digits and _; write NAME: VALUE with a space after the colon"}
	}
	return nil
}

// namePattern returns checkName as a regular expression, for the JSON Schema.
func (k key) namePattern() string {
	if k.path == "sysctl" {
		return `^` + segment + `(\.` + segment + `)+$`
	}
	return variable.String()
}

// checkSysctlName returns why name is not the name of a kernel setting, or nil.
// A name must not lead outside /proc/sys.
func checkSysctlName(name string) *valueError {
	parts := strings.Split(name, ".")
	bad := slices.ContainsFunc(parts, func(p string) bool { return !sysctlSegment.MatchString(p) })
	if !bad && len(parts) > 1 && len(name) <= maxName {
		return nil
	}
	hint := "use the form net.ipv4.ip_forward"
	dotted := strings.ReplaceAll(strings.TrimPrefix(name, "/proc/sys/"), "/", ".")
	if dotted != name && sysctlLike.MatchString(name) && !strings.Contains(dotted, "..") {
		hint = didYouMean(strings.Trim(dotted, "."))
	}
	return &valueError{"is not the name of a kernel setting", hint}
}

// shownPath returns the path of an entry for a message: without its name if
// the name may be a secret.
func (k key) shownPath(name string) string {
	if k.path == "sysctl" && sysctlLike.MatchString(name) && len(name) <= maxName || k.checkName(name) == nil {
		return joinPath(k.path, name)
	}
	return k.path
}

// unknownKey returns the problem and hint for a key that is not in the schema.
func unknownKey(section, name string) (message, hint string) {
	lower := strings.ToLower(name)
	isVXLAN := section == "pool" && (strings.Contains(lower, "vxlan") || strings.Contains(lower, "encapsulation"))
	word, _, isPair := strings.Cut(strings.ReplaceAll(name, "=", ":"), ":")
	hint = suggestKey(section, strings.TrimSpace(word))
	known := slices.Contains(childNames(""), section)
	message = "unknown key"
	switch {
	case isKeyLike(name, hint) && (section == "" || known || keyWord.MatchString(section)):
		message += " " + quote(joinPath(section, name))
	case known:
		message += " in " + section
	}
	switch {
	case isVXLAN:
		hint = vxlanHint
	case isPair && hint == "":
		hint = "write NAME: VALUE with a space after the colon"
	}
	return message, hint
}

// isKeyLike reports whether a message may quote an unknown key. A key with
// digits may be a token, unless a similar key exists.
func isKeyLike(name, suggestion string) bool {
	return keyWord.MatchString(name) || variable.MatchString(name) && len(name) <= 64 && strings.Contains(name, "_") || keyLike.MatchString(name) && suggestion != ""
}

// duplicateKey returns the message for a key that a mapping contains twice.
func duplicateKey(section, name string) string {
	path := joinPath(section, name)
	if k, entry, ok := findKey(path); ok && (entry == "" || k.checkName(entry) == nil) || keyWord.MatchString(name) {
		return "duplicate key " + quote(path)
	}
	return "duplicate key"
}

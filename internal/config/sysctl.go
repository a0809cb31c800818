package config

import (
	"strings"

	"github.com/projecteru2/firstboot/internal/sysctl"
)

// sysctl checks the values of the kernel settings. Their names were checked when
// they were read.
func (v *validator) sysctl() {
	for _, name := range sortedNames(v.cfg.Sysctl) {
		path, text := joinPath("sysctl", name), v.cfg.Sysctl[name]
		switch {
		case strings.TrimSpace(text) == "":
			v.fail(path, "has an empty value", "set a value or remove the key")
		case name == "net.ipv4.ip_forward" && !sysctl.Same(name, text, "1"):
			v.fail(path, "must be 1: Calico forwards at layer 3", "remove the key")
		default:
			v.sysctlValue(path, name)
		}
	}
}

// sysctlValue checks that the kernel takes a value as it is written.
func (v *validator) sysctlValue(path, name string) {
	text := v.cfg.Sysctl[name]
	switch sysctl.Check(name, text) {
	case sysctl.NotNumber:
		v.fail(path, quote(text)+" is not a number that the kernel accepts", numberHint(text))
	case sysctl.TooLarge:
		v.fail(path, "is too large", "the kernel stores 32 bits: at most 4294967295")
	case sysctl.Spaces:
		v.fail(path, "must not begin or end with a space", "remove it")
	}
}

// numberHint suggests a number for a text that is meant as one.
func numberHint(text string) string {
	hint := ""
	switch strings.ToLower(text) {
	case "yes", "on":
		hint = didYouMean("1")
	case "no", "off":
		hint = didYouMean("0")
	default:
		if plain := strings.TrimPrefix(strings.ReplaceAll(text, "_", ""), "+"); plain != text {
			if _, ok := sysctl.Numbers(plain); ok {
				hint = didYouMean(plain)
			}
		}
	}
	return hint
}

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
			v.sysctlNumber(path, name)
		}
	}
}

// sysctlNumber checks a value that the kernel reads as a number.
func (v *validator) sysctlNumber(path, name string) {
	text := v.cfg.Sysctl[name]
	if _, ok := sysctl.Numbers(text); ok || !sysctl.Numeric(name) {
		return
	}
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
	v.fail(path, quote(text)+" is not a number that the kernel accepts", hint)
}

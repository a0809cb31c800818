package config

import (
	"net/netip"
	"net/url"

	"github.com/projecteru2/firstboot/internal/sysctl"
)

const (
	disableIPv6 = "net.ipv6.conf.all.disable_ipv6"
	ipv6Message = " cannot be reached: " + disableIPv6 + " disables IPv6 on this host"
	ipv6Hint    = "use an IPv4 address"
)

// disablesIPv6 reports whether the configuration disables IPv6 on every interface:
// by its key, or because the network is global.
func (v *validator) disablesIPv6() bool {
	return v.disables(v.cfg.Docker.Network == NetworkGlobal)
}

// disables is disablesIPv6 for a network that is global or not.
func (v *validator) disables(global bool) bool {
	if text, ok := v.cfg.Sysctl[disableIPv6]; ok {
		return !sysctl.Same(disableIPv6, text, "0")
	}
	return global
}

// isIPv6 reports whether a host is an IPv6 address that packets over IPv4 do not
// reach.
func isIPv6(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().Is6()
}

// ipv6 checks the URLs that a host uses after IPv6 is disabled. A download may
// come from a bundle, so its address only causes a warning.
func (v *validator) ipv6() {
	if !v.disablesIPv6() {
		return
	}
	for _, s := range flatten(v.cfg) {
		location, ok := s.value.(interface{ Reveal() string })
		_, isKey, _ := findKey(s.path)
		if !ok || isKey != "" {
			continue
		}
		u, err := url.Parse(location.Reveal())
		switch {
		case err != nil || !isIPv6(u.Hostname()):
		case s.path == "report.url":
			v.fail(s.path, quote(u.Hostname())+ipv6Message, ipv6Hint)
		default:
			v.warn(s.path, quote(u.Hostname())+ipv6Message, ipv6Hint)
		}
	}
}

package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

const vxlanHint = "VXLAN pools cannot be used: eru-minions strips the pool's vxlanMode; use pool.ipip"

// calicoBlockSize is what Calico takes where a pool does not say.
const calicoBlockSize = 26

func isVXLAN(s string) bool { return strings.Contains(strings.ToLower(s), "vxlan") }

// pool checks what Calico, Docker and the plugin accept.
func (v *validator) pool() {
	p := v.cfg.Pool
	if why := checkDNSName(p.Name, 253); why != "" {
		hint := ""
		if lower := strings.ToLower(p.Name); lower != p.Name && checkDNSName(lower, 253) == "" {
			hint = didYouMean(lower)
		}
		v.fail("pool.name", why, hint)
	}
	v.network()
	if isVXLAN(p.IPIP) {
		v.fail("pool.ipip", quote(p.IPIP)+" is not possible", vxlanHint)
	}
	sizeOK := p.BlockSize >= 20 && p.BlockSize <= 32 // Calico's limits for IPv4
	if !sizeOK {
		v.fail("pool.blockSize", fmt.Sprintf("must be from 20 to 32, not %d", p.BlockSize), "Calico's default is 26")
	}
	if sizeOK && p.BlockSize != calicoBlockSize {
		v.warn("pool.blockSize", fmt.Sprintf("%d may not last: eru-minions strips fields of the pool that it does not know", p.BlockSize),
			"where it strips this one, Calico goes back to 26 and cannot be told otherwise; 26 is safe")
	}
	if !p.CIDR.IsValid() {
		return
	}
	if !v.cidr(p.CIDR) {
		return
	}
	if sizeOK && p.BlockSize < p.CIDR.Bits() {
		v.fail("pool.blockSize", fmt.Sprintf("%d is larger than the pool %s", p.BlockSize, p.CIDR), fmt.Sprintf("from %d to 32", p.CIDR.Bits()))
	}
	v.collisions(p.CIDR)
}

// cidr tells whether the pool's addresses can be containers' addresses.
func (v *validator) cidr(cidr netip.Prefix) bool {
	fail := func(message, hint string) bool {
		v.fail("pool.cidr", message, hint)
		return false
	}
	if !cidr.Addr().Is4() {
		return fail("must be IPv4: containers of the plugin's network fail to start with IPv6", "")
	}
	if cidr != cidr.Masked() {
		return fail(quote(cidr.String())+" has host bits set", didYouMean(cidr.Masked().String()))
	}
	for _, r := range []struct{ cidr, what string }{
		{"0.0.0.0/8", "this network (0.0.0.0/8)"},
		{"127.0.0.0/8", "the loopback network (127.0.0.0/8)"},
		{"169.254.0.0/16", "link-local addresses (169.254.0.0/16), which Calico rejects"},
		{"224.0.0.0/3", "multicast or reserved addresses (224.0.0.0/3)"},
	} {
		if cidr.Overlaps(netip.MustParsePrefix(r.cidr)) {
			return fail(quote(cidr.String())+" overlaps "+r.what, "choose a private range, such as 10.213.0.0/16")
		}
	}
	if !isPrivate(cidr) {
		v.warn("pool.cidr", cidr.String()+" is not a private range", "hosts of the internet with these addresses will be out of reach")
	}
	return true
}

// private tells whether all of cidr is set aside by RFC 1918 or RFC 6598.
func isPrivate(cidr netip.Prefix) bool {
	for _, r := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"} {
		whole := netip.MustParsePrefix(r)
		if whole.Bits() <= cidr.Bits() && whole.Contains(cidr.Addr()) {
			return true
		}
	}
	return false
}

// collisions finds servers of the physical network inside the pool.
func (v *validator) collisions(cidr netip.Prefix) {
	inside := func(host string) bool {
		ip, err := netip.ParseAddr(host)
		return err == nil && cidr.Contains(ip)
	}
	for _, endpoint := range v.cfg.Etcd.Endpoints {
		if u, err := url.Parse(endpoint); err == nil && inside(u.Hostname()) {
			v.fail("pool.cidr", fmt.Sprintf("%s holds the etcd server %s", cidr, u.Hostname()), "the pool must not be a physical network")
		}
	}
	if address := v.cfg.Host.Address; inside(address) {
		v.fail("pool.cidr", fmt.Sprintf("%s holds this host's address %s", cidr, address), "the pool must not be a physical network")
	} else if p, err := netip.ParsePrefix(address); err == nil && p.Overlaps(cidr) {
		v.fail("pool.cidr", fmt.Sprintf("%s overlaps host.address %s", cidr, p), "the pool must not be a physical network")
	}
}

// networkName is what Docker accepts.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func (v *validator) network() {
	path, name := "pool.network", v.cfg.Pool.Network
	if name == "" {
		path, name = "pool.name", v.cfg.Pool.Name
	} else if len(name) > 253 || !networkName.MatchString(name) {
		v.fail(path, quote(name)+" is not a name that Docker accepts", "letters, digits, _ . and -, at least two")
		return
	}
	switch name {
	case "bridge", "host", "none", "default", "ingress", "docker_gwbridge":
		v.fail(path, "Docker keeps the network name "+quote(name)+" to itself", "")
	}
	if path == "pool.name" && len(name) == 1 {
		v.fail(path, "is too short for the Docker network of that name", "at least two characters, or set pool.network")
	}
}

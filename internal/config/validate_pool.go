package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

const vxlanHint = "VXLAN pools cannot be used, because eru-minions removes the pool's vxlanMode; use pool.ipip"

// calicoBlockSize is Calico's default for a pool without a blockSize.
const calicoBlockSize = 26

const physicalHint = "the pool must not overlap a physical network"

func isVXLAN(s string) bool { return strings.Contains(strings.ToLower(s), "vxlan") }

// pool checks that Calico, Docker and the plugin accept the pool.
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
		v.fail("pool.ipip", quote(p.IPIP)+" is not supported", vxlanHint)
	}
	sizeOK := p.BlockSize >= 20 && p.BlockSize <= 32 // Calico's limits for IPv4
	if !sizeOK {
		v.fail("pool.blockSize", fmt.Sprintf("must be from 20 to 32, not %d", p.BlockSize), "Calico's default is 26")
	}
	if sizeOK && p.BlockSize != calicoBlockSize {
		v.warn("pool.blockSize", fmt.Sprintf("%d may be lost: eru-minions removes fields of the pool that it does not know", p.BlockSize),
			"without this field Calico uses 26, and the field cannot be restored; 26 is safe")
	}
	if !p.CIDR.IsValid() {
		return
	}
	if !v.cidr(p.CIDR) {
		return
	}
	if sizeOK && p.BlockSize < p.CIDR.Bits() {
		v.fail("pool.blockSize", fmt.Sprintf("a /%d block is larger than the pool %s", p.BlockSize, p.CIDR), fmt.Sprintf("use %d to 32", p.CIDR.Bits()))
	}
	v.collisions(p.CIDR)
}

// cidr checks the pool's CIDR and reports whether it is valid.
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
		v.warn("pool.cidr", cidr.String()+" is not a private range", "internet hosts with these addresses become unreachable")
	}
	return true
}

// isPrivate reports whether cidr is inside a range of RFC 1918 or RFC 6598.
func isPrivate(cidr netip.Prefix) bool {
	for _, r := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"} {
		whole := netip.MustParsePrefix(r)
		if whole.Bits() <= cidr.Bits() && whole.Contains(cidr.Addr()) {
			return true
		}
	}
	return false
}

// collisions reports addresses of the physical network that are in the pool.
func (v *validator) collisions(cidr netip.Prefix) {
	inside := func(host string) bool {
		ip, err := netip.ParseAddr(host)
		return err == nil && cidr.Contains(ip)
	}
	for _, endpoint := range v.cfg.Etcd.Endpoints {
		if u, err := url.Parse(endpoint); err == nil && inside(u.Hostname()) {
			v.fail("pool.cidr", fmt.Sprintf("%s contains the etcd server %s", cidr, u.Hostname()), physicalHint)
		}
	}
	if address := v.cfg.Host.Address; inside(address) {
		v.fail("pool.cidr", fmt.Sprintf("%s contains this host's address %s", cidr, address), physicalHint)
	} else if p, err := netip.ParsePrefix(address); err == nil && p.Overlaps(cidr) {
		v.fail("pool.cidr", fmt.Sprintf("%s overlaps host.address %s", cidr, p), physicalHint)
	}
}

// networkName matches the network names that Docker accepts.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// network checks the name of the Docker network.
func (v *validator) network() {
	path, name := "pool.network", v.cfg.Pool.Network
	if name == "" {
		path, name = "pool.name", v.cfg.Pool.Name
	} else if len(name) > 253 || !networkName.MatchString(name) {
		v.fail(path, quote(name)+" is not a Docker network name", "use at least two letters, digits, _, . or -")
		return
	}
	switch name {
	case "bridge", "host", "none", "default", "ingress", "docker_gwbridge":
		v.fail(path, "Docker reserves the network name "+quote(name), "")
	}
	if path == "pool.name" && len(name) == 1 {
		v.fail(path, "is too short for a Docker network name", "use at least two characters, or set pool.network")
	}
}

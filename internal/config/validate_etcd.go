package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// etcd checks the connection to the datastore.
func (v *validator) etcd() {
	c := v.cfg.Etcd
	for i, endpoint := range c.Endpoints {
		if hint, err := checkEndpoint(endpoint); err != nil {
			v.failItem("etcd.endpoints", i, err.Error(), hint)
		} else if slices.Contains(c.Endpoints[:i], endpoint) {
			v.failItem("etcd.endpoints", i, "duplicate endpoint "+quote(endpoint), "")
		} else if u, err := url.Parse(endpoint); err == nil && v.disablesIPv6() && isIPv6(u.Hostname()) {
			v.failItem("etcd.endpoints", i, quote(u.Hostname())+ipv6Message, ipv6Hint)
		} else if isHTTPS(endpoint) != isHTTPS(c.Endpoints[0]) {
			v.failItem("etcd.endpoints", i, "mixes http and https", "use https for every endpoint, or http for every endpoint")
		}
	}
	v.etcdFiles()
	v.etcdUser()
}

// checkEndpoint returns why an etcd endpoint is invalid. The error does not
// contain an endpoint that may contain a password.
func checkEndpoint(endpoint string) (hint string, err error) {
	u, err := url.Parse(endpoint)
	switch {
	case endpoint == "":
		return "write http://HOST:2379", errors.New("contains an empty endpoint")
	case !strings.Contains(endpoint, "://"):
		return suggestEndpoint(endpoint), errors.New("an endpoint has no scheme")
	case err != nil:
		return "write http://HOST:2379", errors.New("an endpoint is not a URL")
	case u.User != nil:
		return userHint, errors.New("an endpoint contains a user or password")
	case u.Scheme != "http" && u.Scheme != "https":
		return "write http://HOST:2379 or https://HOST:2379", errors.New("an endpoint has the unsupported scheme " + quote(u.Scheme))
	case u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(endpoint, "#"):
		plain := u.Scheme + "://" + u.Host
		return didYouMean(plain), errors.New(quote(plain) + " must not have a path or query")
	case u.Port() == "":
		return didYouMean(u.Scheme + "://" + strings.TrimSuffix(u.Host, ":") + ":2379"), errors.New(quote(endpoint) + " has no port")
	}
	return "", checkHostPort(u.Host)
}

// suggestEndpoint returns a hint for an endpoint without a scheme.
func suggestEndpoint(endpoint string) string {
	if checkHostPort(endpoint) == nil {
		return didYouMean("http://" + endpoint)
	}
	return "write http://HOST:2379"
}

// checkHostPort returns an error if s is not HOST:PORT with a valid host.
func checkHostPort(s string) error {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New(quote(s) + " is not HOST:PORT")
	}
	if err := checkPort(p); err != nil {
		return err
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && (ip.IsUnspecified() || ip.IsMulticast()):
		return errors.New(quote(host) + " is not a server address")
	case err == nil:
		return nil
	case checkDNSName(strings.ToLower(host), 253) != "":
		return errors.New(quote(host) + " is not a host name or IP address")
	case looksLikeIP(host):
		return errors.New(quote(host) + " is not an IP address")
	}
	return nil
}

// looksLikeIP reports whether a host ends in a number, as 10.0.0.300 does. No
// top-level domain is a number.
func looksLikeIP(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	return strings.Trim(last, "0123456789") == ""
}

// IsLocalHostName reports whether name is one of the names of the loopback
// interface, with or without a domain. Distributions put all of them in
// /etc/hosts, so none can name a host.
func IsLocalHostName(name string) bool {
	label, _, _ := strings.Cut(strings.ToLower(name), ".")
	return label == "localhost" || label == "localhost4" || label == "localhost6"
}

// CheckHostName returns why name cannot be a host's name, or "" if it can.
func CheckHostName(name string) (message, hint string) {
	switch why := checkDNSName(name, 64); { // Linux: HOST_NAME_MAX
	case IsLocalHostName(name):
		return quote(name) + " is not a unique host name", "give each host its own name"
	case why != "" && checkDNSName(strings.ToLower(name), 64) == "":
		return why + ": Calico converts node names to lower case", didYouMean(strings.ToLower(name))
	default:
		return why, ""
	}
}

// host checks the machine's name and address.
func (v *validator) host() {
	if name := v.cfg.Host.Name; name != "" {
		if message, hint := CheckHostName(name); message != "" {
			v.fail("host.name", message, hint)
		}
	}
	if address := v.cfg.Host.Address; address != "" {
		if message, hint := checkAddress(address); message != "" {
			v.fail("host.address", message, hint)
		}
	}
}

// checkAddress returns why host.address is invalid, or "".
func checkAddress(s string) (message, hint string) {
	if name, ok := strings.CutPrefix(s, "interface="); ok {
		if name == "" || len(name) > 15 || strings.ContainsAny(name, "/ \t:") || name == "." || name == ".." { // Linux: IFNAMSIZ
			return quote(name) + " is not an interface name", ""
		}
		return "", ""
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return quote(s) + " is not an IP address, a CIDR or interface=NAME", ""
		}
		if prefix != prefix.Masked() && prefix.Addr().Is4() {
			return quote(s) + " has host bits set", "the network is " + prefix.Masked().String() + ", the address " + prefix.Addr().String()
		}
		ip = prefix.Addr()
	}
	switch {
	case !ip.Is4():
		return "must be IPv4: the nodes route only IPv4", ""
	case ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.IsUnspecified():
		return quote(s) + " cannot be reached from other hosts", ""
	}
	return "", ""
}

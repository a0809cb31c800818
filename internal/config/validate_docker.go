package config

import (
	"net"
	"strings"
)

// docker checks the mode of the network, and the cluster-store of a global one,
// which dockerd accesses by etcd's v2 API.
func (v *validator) docker() {
	c := v.cfg.Docker
	if c.Network == NetworkGlobal && v.cfg.Etcd.TLS() {
		v.fail("docker.network", quote(NetworkGlobal)+" "+globalCause, "use auto or local")
	}
	store := c.ClusterStore
	if store == ClusterStoreAuto || store == ClusterStoreOff {
		return
	}
	rest, ok := strings.CutPrefix(store, "etcd://")
	if !ok {
		hint := suggest(store, []string{ClusterStoreAuto, ClusterStoreOff})
		v.fail("docker.clusterStore", "must be auto, off or etcd://HOST:PORT", hint)
		return
	}
	if strings.Contains(rest, "@") {
		v.fail("docker.clusterStore", "Docker cannot use an etcd user", "use an etcd without users, or docker.network: local")
		return
	}
	hosts, _, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		if err := checkHostPort(host); err != nil {
			v.fail("docker.clusterStore", err.Error(), "write etcd://HOST:2379")
		} else if name, _, _ := net.SplitHostPort(host); v.disables(true) && isIPv6(name) {
			v.fail("docker.clusterStore", quote(name)+ipv6Message, ipv6Hint)
		}
	}
	switch {
	case c.Network == NetworkLocal:
		v.warn("docker.clusterStore", "has no effect with docker.network: local", "remove it")
	case v.cfg.Etcd.TLS():
		v.warn("docker.clusterStore", "has no effect with https endpoints, which need a local network", "remove it")
	}
}

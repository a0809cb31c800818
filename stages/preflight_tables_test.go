package stages_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/units"
)

func hostCases() []refusedCase {
	named := func(name string) func(*machine) {
		return func(m *machine) { m.put("/proc/sys/kernel/hostname", name+"\n") }
	}
	return []refusedCase{
		{name: "architecture", problem: "package for another machine", words: []string{"s390x"}, arrange: func(m *machine) {
			putFile(m.t, "/", m.artifacts.rpm, minionsRPM(m.t, "s390x"), 0o600)
			m.put("/var/lib/firstboot/cache/"+digestOf(m.artifacts.rpm), minionsRPM(m.t, "s390x"))
			m.override(fmt.Sprintf("minions: {sha256: %q}", digestOf(m.artifacts.rpm)))
		}},
		{name: "host-name", problem: "differs from host.name", arrange: func(m *machine) { m.override("host: {name: other}") }, words: []string{"host1", "other", "set-hostname other"}},
		{name: "host-name", problem: "empty", arrange: named("")},
		{name: "host-name", problem: "localhost", arrange: named("localhost")},
		{name: "host-name", problem: "a name of the loopback interface", arrange: named("localhost6.localdomain6")},
		{name: "host-name", problem: "localhost with a domain", arrange: named("localhost.localdomain")},
		{name: "host-name", problem: "the kernel's default", arrange: named("(none)")},
		{name: "host-name", problem: "upper case", arrange: named("Host1"), words: []string{"Host1", "hostnamectl set-hostname host1"}},
		{name: "host-name", problem: "underscore", arrange: named("host_1")},
		{name: "host-name", problem: "label ends with a hyphen", arrange: named("host1-.example")},
		{name: "localhost", problem: "no /etc/hosts", arrange: func(m *machine) { m.remove("/etc/hosts") }, words: []string{"no such file", "echo '127.0.0.1 localhost' >> /etc/hosts"}},
		{name: "localhost", problem: "only in a comment", arrange: func(m *machine) { m.put("/etc/hosts", "# 127.0.0.1 localhost\n10.0.0.2 host1 # localhost\n") }, words: []string{"no IPv4 address for localhost"}},
		{name: "localhost", problem: "only IPv6", arrange: func(m *machine) { m.put("/etc/hosts", "::1 localhost\n127.0.1.1 host1\n") }},
		{name: "localhost", problem: "not a loopback address", arrange: func(m *machine) { m.put("/etc/hosts", "10.0.0.2 localhost\n") }},
		{name: "disk-space", problem: "for calicoctl", arrange: func(m *machine) { m.net.free["/usr/bin"] = 100 << 20 }, words: []string{"/usr/bin", "105 MB", "130 MB"}},
		{name: "disk-space", problem: "for the cache", arrange: func(m *machine) { m.net.free["/var/lib/firstboot"] = 1 << 20 }},
		{name: "disk-space", problem: "for the image", words: []string{"/data/docker", "750 MB"}, arrange: func(m *machine) {
			m.docker.dataRoot = "/data/docker"
			m.net.free["/data/docker"] = 600 << 20
		}},
		{name: "disk-space", problem: "for the image, Docker stopped", words: []string{"/var/lib/docker"}, arrange: func(m *machine) {
			m.stopDocker()
			m.net.free["/var/lib/docker"] = 0
		}},
		{name: "baked-nodename", problem: "another host's name", arrange: func(m *machine) { m.put("/var/lib/calico/nodename", "golden\n") }, words: []string{"golden", "host1", "firstboot seal"}},
		{name: "artifact-missing", problem: "calicoctl", arrange: func(m *machine) { m.override(`calicoctl: {url: "", sha256: ""}`) }, words: []string{"calicoctl.url", "bundle"}},
		{name: "artifact-missing", problem: "the package", arrange: func(m *machine) { m.override(`minions: {url: "", sha256: ""}`) }, words: []string{"minions.url"}},
		{name: "artifact-missing", problem: "digest without url", arrange: func(m *machine) { m.override(`calicoctl: {url: ""}`) }},
		{name: "rpm-missing", problem: "", arrange: func(m *machine) { m.remove("/usr/bin/rpm") }, words: []string{"install the package rpm"}},
		{name: "image-by-tag", problem: "", warning: true, arrange: func(m *machine) { m.override(`node: {url: "", sha256: ""}`) }, words: []string{"calico/node:v3.23.0", "by digest"}},
		{name: "node-image-version", problem: "other version than calicoctl", arrange: func(m *machine) { m.override(`node: {image: "calico/node:v3.22.1"}`) }, words: []string{"v3.22.1", "v3.23.0"}},
	}
}

func kernelCases() []refusedCase {
	return []refusedCase{
		{name: "kernel-modules", problem: "modules not found", arrange: func(m *machine) { m.modules["xt_set"], m.modules["nf_conntrack"] = false, false }, words: []string{"xt_set", "nf_conntrack", "uname -r"}},
		{name: "kernel-modules", problem: "ipip not found, with pool.ipip", words: []string{"ipip"}, arrange: func(m *machine) {
			m.override("pool: {ipip: Always}")
			m.modules["ipip"] = false
		}},
		{name: "sysctl", problem: "no such key", words: []string{"net.bridge.bridge-nf-call-iptables", "no such key", "/etc/modules-load.d"}, arrange: func(m *machine) {
			m.override("sysctl: {net.bridge.bridge-nf-call-iptables: 1}")
		}},
		{name: "sysctl", problem: "no such key of a loaded module", words: []string{"net.netfilter.nf_conntrack_maximum"}, arrange: func(m *machine) {
			m.put("/proc/sys/net/netfilter/nf_conntrack_max", "65536\n")
			m.override("sysctl: {net.netfilter.nf_conntrack_maximum: 1}")
		}},
		{name: "sysctl", problem: "IPv6 wanted, kernel without IPv6", words: []string{"net.ipv6.conf.all.disable_ipv6", "no IPv6", "ipv6.disable=1"}, arrange: func(m *machine) {
			m.remove("/proc/sys/net/ipv6")
			m.override("sysctl: {net.ipv6.conf.all.disable_ipv6: 0}")
		}},
		{name: "sysctl", problem: "read-only", words: []string{"read-only, 65536", "1000000"}, arrange: func(m *machine) {
			putFile(m.t, m.root, "/proc/sys/net/netfilter/nf_conntrack_max", "65536\n", 0o444)
		}},
		{name: "sysctl", problem: "not a number", words: []string{"kernel.panic", "expected never"}, arrange: func(m *machine) {
			m.put("/proc/sys/kernel/panic", "0\n")
			m.override("sysctl: {kernel.panic: never}")
		}},
		{name: "sysctl", problem: "more numbers than the kernel has", words: []string{"kernel.printk"}, arrange: func(m *machine) {
			m.put("/proc/sys/kernel/printk", "3\t4\t1\t7\n")
			m.override("sysctl: {kernel.printk: 3 4 1 7 9}")
		}},
		{name: "apparmor-parser", problem: "", arrange: func(m *machine) { m.put("/sys/module/apparmor/parameters/enabled", "Y\n") }, words: []string{"apparmor=0"}},
		{name: "forward-policy", problem: "", warning: true, arrange: func(m *machine) { m.forward = "-P FORWARD DROP\n" }, words: []string{"DROP", "ACCEPT"}},
		{name: "networkmanager", problem: "a later file replaces the list", words: []string{"99-site.conf", "unmanaged-devices+="}, arrange: func(m *machine) {
			m.put("/etc/NetworkManager/conf.d/99-site.conf", "[keyfile]\nunmanaged-devices = mac:02:00:00:00:00:08\n")
		}},
		{name: "networkmanager", problem: "a later file removes an item", words: []string{"99-site.conf"}, arrange: func(m *machine) {
			m.put("/etc/NetworkManager/conf.d/99-site.conf", "[keyfile]\nunmanaged-devices-=interface-name:tunl*\n")
		}},
		{name: "networkmanager", problem: "no configuration directory", warning: true, arrange: func(m *machine) {
			m.put(units.Dir+"/NetworkManager.service", "[Service]\nExecStart=/usr/sbin/NetworkManager\n")
			m.boot("NetworkManager.service")
		}},
	}
}

// builtIn makes the kernel list its modules as built in.
func builtIn(m *machine) {
	m.remove("/proc/modules")
	m.put("/proc/sys/kernel/osrelease", "6.1.0\n")
	m.put("/lib/modules/6.1.0/modules.builtin", "kernel/net/netfilter/nf_conntrack.ko\nkernel/net/ipv4/netfilter/ip_tables.ko\n"+
		"kernel/net/ipv6/netfilter/ip6_tables.ko.xz\nkernel/net/netfilter/xt-set.ko\n")
	m.put("/proc/sys/net/netfilter/nf_conntrack_max", "65536\n")
}

// working makes the kernel show in /proc what its modules provide.
func working(m *machine) {
	m.remove("/proc/modules")
	m.put("/proc/sys/net/netfilter/nf_conntrack_max", "65536\n")
	m.put("/proc/net/ip_tables_names", "filter\n")
	m.put("/proc/net/ip6_tables_names", "")
	m.put("/proc/net/ip6_tables_matches", "tcp\nset\nset\n")
}

func networkCases() []refusedCase {
	route := func(to, by string, protocol int) func(*machine) {
		return func(m *machine) {
			m.net.routes = append(m.net.routes, newRoute(to, by, "eth0", protocol))
		}
	}
	return []refusedCase{
		{name: "address", problem: "no such address", arrange: func(m *machine) { m.override("host: {address: 10.0.0.99}") }, words: []string{"10.0.0.99", "10.0.0.2 (eth0)"}},
		{name: "address", problem: "no such interface", arrange: func(m *machine) { m.override("host: {address: interface=eth9}") }, words: []string{"interface=eth9"}},
		{name: "address", problem: "no address in the CIDR", arrange: func(m *machine) { m.override("host: {address: 192.168.0.0/16}") }},
		{name: "address", problem: "etcd on this host, two addresses", words: []string{"10.0.0.2", "10.1.0.1", "set host.address"}, arrange: func(m *machine) {
			m.net.source = netip.MustParseAddr("127.0.0.1")
			m.net.add("eth1", "10.1.0.1/24")
		}},
		{name: "default-route", problem: "missing", words: []string{"no default route"}, arrange: func(m *machine) { m.net.routes = m.net.routes[1:] }},
		{name: "ipv6-in-use", problem: "global address", arrange: func(m *machine) { m.net.add("eth0", "2001:db8::5/64") }, words: []string{"2001:db8::5 (eth0)"}},
		{name: "bgp-port", problem: "another daemon", words: []string{"10.0.0.2:179", "ss -ltnp"}, arrange: func(m *machine) {
			m.net.listening[netip.AddrPortFrom(m.net.eth0(), 179)] = true
		}},
		{name: "bgp-port", problem: "another daemon, calico-node stopped", arrange: func(m *machine) {
			m.net.listening[netip.AddrPortFrom(m.net.eth0(), 179)] = true
			m.docker.containers["calico-node"] = &container{Name: "calico-node"}
		}},
		{name: "cidr-overlap", problem: "address in the pool", arrange: func(m *machine) { m.net.add("eth1", "10.213.7.1/24") }, words: []string{"10.213.0.0/16", "10.213.7.0/24 on eth1"}},
		{name: "cidr-overlap", problem: "pool inside the host's network", arrange: func(m *machine) { m.override("pool: {cidr: 10.0.0.0/24}") }, words: []string{"10.0.0.0/24 on eth0"}},
		{name: "cidr-overlap", problem: "route", arrange: route("10.192.0.0/10", "10.0.0.254", 4), words: []string{"10.192.0.0/10 routed by 10.0.0.254"}},
		{name: "cidr-overlap", problem: "another Docker network", words: []string{"Docker's network old", "docker network rm old"}, arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("old", "bridge", "10.213.0.0/24"))
		}},
		{name: "cidr-overlap", problem: "second network over the pool", warning: true, words: []string{"other", "docker network rm other"}, arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("other", "calico", "10.213.0.0/16"))
		}},
		{name: "cidr-overlap", problem: "network of the configured name with another driver", arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("firstboot", "bridge", "10.213.0.0/24"))
		}},
		{name: "cidr-overlap", problem: "default bridge of a stopped Docker", words: []string{"172.17.0.0/16"}, arrange: func(m *machine) {
			m.stopDocker()
			m.net.addresses = m.net.addresses[:4]
			m.override("pool: {cidr: 172.17.128.0/17}")
		}},
	}
}

func dockerNetwork(name, driver string, subnets ...string) dockerd.Network {
	n := dockerd.Network{ID: fakeID(name), Name: name, Driver: driver}
	n.IPAM.Driver = map[string]string{"calico": "calico-ipam"}[driver]
	for _, subnet := range subnets {
		n.IPAM.Config = append(n.IPAM.Config, struct{ Subnet string }{subnet})
	}
	return n
}

func dockerCases() []refusedCase {
	version := func(v string) func(*machine) {
		return func(m *machine) { m.docker.version = v }
	}
	const other = "etcd://10.0.0.9:2379"
	return []refusedCase{
		{name: "docker-missing", problem: "no dockerd", words: []string{"docker.io"}, arrange: func(m *machine) {
			m.stopDocker()
			m.remove("/usr/sbin/dockerd")
		}},
		{name: "docker-missing", problem: "no unit", words: []string{"no such unit"}, arrange: func(m *machine) {
			m.stopDocker()
			m.remove(units.Dir + "/docker.service")
			m.systemd.units[units.Docker].read = ""
		}},
		{name: "docker-missing", problem: "masked", words: []string{"systemctl unmask docker"}, arrange: func(m *machine) {
			m.stopDocker()
			m.systemd.units[units.Docker].masked = true
		}},
		{name: "docker-version", problem: "before 19.03", arrange: version("18.09.9"), words: []string{"18.09.9", "19.03 to 20.10"}},
		{name: "docker-version", problem: "19.02", arrange: version("19.02.1")},
		{name: "docker-version", problem: "23", arrange: version("23.0.6"), words: []string{"no cluster-store", "docker.network: local"}},
		{name: "docker-version", problem: "28", arrange: version("28.1.1")},
		{name: "docker-version", problem: "not a number", arrange: version("dev")},
		{name: "docker-version", problem: "24, stopped", words: []string{"24.0.7"}, arrange: func(m *machine) {
			m.docker.version = "24.0.7"
			m.stopDocker()
		}},
		{name: "docker-version", problem: "30", warning: true, words: []string{"30.0.1"}, arrange: func(m *machine) {
			m.docker.version = "30.0.1"
			m.override("docker: {network: local}")
		}},
		{name: "docker-runtime", problem: "old runc", words: []string{"runc version 1.1.15", "crun"}, arrange: func(m *machine) {
			m.docker.version = "29.0.0"
			m.override("docker: {network: local}")
			m.runc = "runc version 1.1.15+ds1\ncommit: 1\n"
			m.putProgram("/usr/bin/runc", "")
		}},
		{name: "containers-to-recreate", problem: "global network", warning: true, words: []string{"containers: shop, stopped on"}, arrange: func(m *machine) {
			m.toLocal()
			m.override("docker: {restart: allow}")
		}},
		{name: "containers-to-recreate", problem: "a newer Docker that does not start", warning: true, words: []string{"containers: shop on"}, arrange: func(m *machine) {
			m.put("/etc/docker/daemon.json", `{"cluster-store": "etcd://10.0.0.1:2379", "data-root": "/srv/docker"}`)
			for name, id := range map[string]string{"shop": fakeID("global network"), "created": ""} {
				m.put("/srv/docker/containers/"+fakeID(name)+"/config.v2.json", `{"Name": "/`+name+`", "NetworkSettings": {"Networks": {"firstboot": {"NetworkID": "`+id+`"}}}}`)
				m.put("/srv/docker/containers/"+fakeID(name)+"/hostconfig.json", `{"RestartPolicy": {"Name": "always"}}`)
			}
			m.docker.version = "26.1.5+dfsg1"
			m.stopDocker()
			m.override("docker: {network: auto}")
		}},
		{name: "foreign-containers", problem: "a restart without the cluster-store", words: []string{"shop", "no cluster-store"}, arrange: func(m *machine) {
			m.toLocal()
			m.docker.containers["shop"].Network = "bridge"
			delete(m.docker.containers, "stopped")
		}},
		{name: "own-network", problem: "of an earlier local mode", words: []string{"docker network rm firstboot"}, arrange: func(m *machine) {
			own := dockerNetwork("firstboot", "calico", "10.213.0.0/16")
			own.Scope = "local"
			m.docker.own = append(m.docker.own, own)
		}},
		{name: "docker-cluster-store", problem: "clusterStore off, none set", arrange: func(m *machine) { m.override(`docker: {clusterStore: "off"}`) }, words: []string{"docker.clusterStore"}},
		{name: "docker-cluster-store", problem: "swarm", arrange: func(m *machine) { m.docker.swarm = "active" }, words: []string{"docker swarm leave"}},
		{name: "docker-cluster-store", problem: "flag in the unit", words: []string{"--cluster-store"}, arrange: func(m *machine) {
			m.put(units.AdminDir+"/docker.service.d/site.conf", "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --cluster-store=etcd://x:2379\n")
			_ = m.systemd.job("daemon-reload", "")
		}},
		{name: "docker-cluster-store", problem: "flag in /etc/default/docker", words: []string{"--cluster-advertise"}, arrange: func(m *machine) {
			m.put("/etc/default/docker", "# DOCKER_OPTS=\nDOCKER_OPTS=\"--cluster-advertise=eth0:2376\"\n")
		}},
		{name: "docker-cluster-store", problem: "damaged daemon.json", arrange: func(m *machine) { m.put("/etc/docker/daemon.json", "{\"debug\": true") }, words: []string{"/etc/docker/daemon.json", "repair"}},
		{name: "docker-cluster-store", problem: "two JSON values", arrange: func(m *machine) { m.put("/etc/docker/daemon.json", "{\"debug\": true}\n{}\n") }, words: []string{"more than one JSON value", "Docker reads only the first value"}},
		{name: "docker-cluster-store", problem: "null", arrange: func(m *machine) { m.put("/etc/docker/daemon.json", "null") }, words: []string{"replace it with {}"}},
		{name: "docker-cluster-store", problem: "certificates of another store", words: []string{"cluster-store-opts sets kv.cacertfile"}, arrange: func(m *machine) {
			m.put("/etc/docker/daemon.json", `{"cluster-store": "etcd://10.0.0.9:2379", "cluster-store-opts": {"discovery.ttl": "60", "kv.certfile": "/c", "kv.cacertfile": "/ca"}}`)
		}},
		{name: "docker-cluster-store", problem: "prefix of another store", words: []string{"kv.path"}, arrange: func(m *machine) {
			m.put("/etc/docker/daemon.json", `{"cluster-store-opts": {"kv.path": "prod"}}`)
		}},
		{name: "docker-cluster-store", problem: "another configuration file", words: []string{"--config-file /srv/daemon.json"}, arrange: func(m *machine) {
			m.put("/etc/default/docker", "DOCKER_OPTS=\"--config-file=/srv/daemon.json\"\n")
		}},
		{name: "docker-userns", problem: "in daemon.json", words: []string{"userns-remap is default"}, arrange: func(m *machine) {
			m.put("/etc/docker/daemon.json", `{"userns-remap": "default"}`)
		}},
		{name: "docker-userns", problem: "flag", words: []string{"--userns-remap"}, arrange: func(m *machine) {
			m.put("/etc/default/docker", "DOCKER_OPTS=--userns-remap=default\n")
		}},
		{name: "foreign-containers", problem: "another cluster-store in use", words: []string{other, "shop", "docker.restart: allow"}, arrange: func(m *machine) {
			m.docker.shownStore, m.docker.effectiveStore = other, other
			m.docker.containers["shop"] = &container{Name: "shop", Running: true}
		}},
	}
}

func clusterCases() []refusedCase {
	return []refusedCase{
		{name: "calico-version", problem: "other version in the cluster", words: []string{"v3.22.0", "v3.23.0"}, arrange: func(m *machine) {
			m.cluster.store("clusterinformations", "default", resource("ClusterInformation", "default", map[string]any{"calicoVersion": "v3.22.0"}))
		}},
		{name: "address", problem: "no such address, in a cluster with a Node of this name", words: []string{"10.0.0.99"}, arrange: func(m *machine) {
			m.cluster.store("nodes", "host1", resource("Node", "host1", map[string]any{"bgp": map[string]any{"ipv4Address": "10.0.0.2/24"}}))
			m.override("host: {address: 10.0.0.99}")
		}},
		{name: "etcd-v3", problem: "a value that cannot be decoded", words: []string{"cannot decode ClusterInformation default"}, arrange: func(m *machine) {
			m.cluster.store("clusterinformations", "default", map[string]any{"kind": "Other"})
		}},
		{name: "pool-is-local", problem: "", words: []string{"firstboot-firstboot", "docker.network: local"}, arrange: func(m *machine) {
			pool := resource("IPPool", "firstboot", map[string]any{"cidr": "10.213.0.0/16"})
			meta(pool)["annotations"] = map[string]any{networkAnnotation: "firstboot-firstboot"}
			m.cluster.store("ippools", "firstboot", pool)
		}},
		{name: "node-name-taken", problem: "another address", words: []string{"10.0.0.77", "10.0.0.2", "calicoctl delete node host1"}, arrange: func(m *machine) {
			m.cluster.store("nodes", "host1", resource("Node", "host1", map[string]any{"bgp": map[string]any{"ipv4Address": "10.0.0.77/24"}}))
		}},
	}
}

// acceptedHosts are hosts without a finding, by their description.
func acceptedHosts() map[string]func(*machine) {
	ownNode := func(m *machine, address string) {
		m.cluster.store("nodes", "host1", resource("Node", "host1", map[string]any{"bgp": map[string]any{"ipv4Address": address}}))
	}
	return map[string]func(*machine){
		"a bare host":                        func(*machine) {},
		"a host that has joined":             joined,
		"a stopped Docker":                   func(m *machine) { m.stopDocker() },
		"Docker 19.03":                       func(m *machine) { m.docker.version = "19.03.15" },
		"a reinstalled host":                 func(m *machine) { ownNode(m, "10.0.0.2/24") },
		"a Node without an address":          func(m *machine) { ownNode(m, "") },
		"a Node with the name in upper case": func(m *machine) { m.cluster.store("nodes", "HOST1", resource("Node", "HOST1", map[string]any{})) },
		"a name with a domain":               func(m *machine) { m.put("/proc/sys/kernel/hostname", "host1.example.org\n") },
		"localhost with other names": func(m *machine) {
			m.put("/etc/hosts", "127.0.1.1 host1\n\t127.0.0.1\thost1.example.org LocalHost. loghost # own\n::1 localhost\n")
		},
		"host.name is the host name":     func(m *machine) { m.override("host: {name: host1}") },
		"host.address with an interface": func(m *machine) { m.override("host: {address: interface=eth0}") },
		"host.address with a CIDR":       func(m *machine) { m.override("host: {address: 10.0.0.0/24}") },
		"etcd on this host, one address": func(m *machine) {
			m.net.source = netip.MustParseAddr("127.0.0.1")
		},
		"loaded modules that modprobe does not find": func(m *machine) {
			m.modules = map[string]bool{}
			for _, name := range []string{"nf_conntrack", "ip6_tables", "xt_set"} {
				m.put("/sys/module/"+name+"/initstate", "live\n")
			}
			m.put("/proc/sys/net/netfilter/nf_conntrack_max", "65536\n")
		},
		"modules that are built in": func(m *machine) {
			m.modules = map[string]bool{}
			builtIn(m)
		},
		"modules that work, without a list of them": func(m *machine) {
			m.modules = map[string]bool{}
			working(m)
		},
		"a kernel without IPv6":             func(m *machine) { m.remove("/proc/sys/net/ipv6") },
		"no ipip module, without pool.ipip": func(m *machine) { m.modules["ipip"] = false },
		"IPv6 in use, with a local network": func(m *machine) {
			m.net.add("eth0", "2001:db8::5/64")
			m.override("docker: {network: local}")
		},
		"Docker 29, chosen mode": func(m *machine) {
			m.docker.version = "29.0.0"
			m.docker.swarm = "active"
			m.runc = "runc version 1.2.5\n"
			m.putProgram("/usr/bin/runc", "")
			m.override("docker: {network: auto}")
		},
		"IPv6 only on Docker's bridge": func(m *machine) { m.net.add("docker0", "2001:db8:1::1/64") },
		"IPv6 that is not disabled": func(m *machine) {
			m.net.add("eth0", "2001:db8::5/64")
			m.override(`sysctl: {net.ipv6.conf.all.disable_ipv6: "0"}`)
		},
		"AppArmor with its parser": func(m *machine) {
			m.put("/sys/module/apparmor/parameters/enabled", "Y\n")
			m.putProgram("/usr/sbin/apparmor_parser", "")
		},
		"AppArmor disabled":           func(m *machine) { m.put("/sys/module/apparmor/parameters/enabled", "N\n") },
		"Docker's own forward policy": func(m *machine) { m.forward = "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n" },
		"no iptables":                 func(m *machine) { m.forward = "-P FORWARD DROP\n"; m.remove("/usr/sbin/iptables") },
		"NetworkManager with other lists": func(m *machine) {
			m.put("/etc/NetworkManager/conf.d/10-site.conf", "[keyfile]\nunmanaged-devices=mac:02:00:00:00:00:08\n")
			m.put("/etc/NetworkManager/conf.d/99-a.conf", "[keyfile]\nunmanaged-devices+=mac:02:00:00:00:00:09\n")
			m.put("/etc/NetworkManager/conf.d/99-b.conf", "[keyfile]\nunmanaged-devices=interface-name:tunl*,interface-name:cali*\n")
			m.put("/etc/NetworkManager/conf.d/99-c.conf", "[device]\nunmanaged-devices=x\n[keyfile]\n# unmanaged-devices=y\n")
			m.put("/etc/NetworkManager/conf.d/99-d.txt", "[keyfile]\nunmanaged-devices=z\n")
		},
		"NetworkManager with its directory": func(m *machine) {
			m.put("/etc/NetworkManager/NetworkManager.conf", "")
			m.put(units.Dir+"/NetworkManager.service", "[Service]")
			m.boot("NetworkManager.service")
		},
		"this host's nodename": func(m *machine) { m.put("/var/lib/calico/nodename", "host1") },
		"an empty nodename":    func(m *machine) { m.put("/var/lib/calico/nodename", "\n") },
		"no free space, everything installed": func(m *machine) {
			m.put("/usr/bin/calicoctl", "")
			m.putProgram("/usr/bin/calicoctl", calicoctlScript("v3.23.0"))
			m.docker.images["calico/node:v3.23.0"] = image{ID: "sha256:1"}
			m.net.free["/usr/bin"], m.net.free["/var/lib/docker"], m.net.free["/var/lib/firstboot"] = 0, 0, 0
		},
		"no free space, image in a stopped Docker": func(m *machine) {
			m.stopDocker()
			m.net.free["/var/lib/docker"] = 0
			m.put("/var/lib/docker/image/overlay2/repositories.json", `{"Repositories":{"calico/node":{"calico/node:v3.23.0":"sha256:1"}}}`)
		},
		"calicoctl installed": func(m *machine) {
			m.putProgram("/usr/bin/calicoctl", calicoctlScript("v3.23.0"))
			m.override(`calicoctl: {url: "", sha256: ""}`)
		},
		"package installed": func(m *machine) {
			m.rpmInstall([]string{"--nodeps", m.artifacts.rpm})
			m.override(`minions: {url: "", sha256: ""}`)
		},
		"everything in a bundle": func(m *machine) {
			m.bundle()
			m.override(`{calicoctl: {url: "", sha256: ""}, minions: {url: "", sha256: ""}, node: {url: "", sha256: ""}}`)
		},
		"an image by digest": func(m *machine) {
			m.override(`node: {url: "", sha256: "", image: "calico/node@sha256:` + strings.Repeat("a", 64) + `"}`)
		},
		"image present": func(m *machine) {
			m.docker.images["calico/node:v3.23.0"] = image{ID: "sha256:1"}
			m.override(`node: {url: "", sha256: ""}`)
		},
		"foreign containers, no cluster-store in use": func(m *machine) { m.docker.containers["shop"] = &container{Name: "shop", Running: true} },
		"another cluster-store, no foreign containers": func(m *machine) {
			m.docker.shownStore = "etcd://10.0.0.9:2379"
			m.docker.containers["calico-node"] = &container{Name: "calico-node", Running: true}
			m.docker.containers["old"] = &container{Name: "old"}
		},
		"another cluster-store, docker.restart allow": func(m *machine) {
			m.docker.shownStore = "etcd://10.0.0.9:2379"
			m.docker.containers["shop"] = &container{Name: "shop", Running: true}
			m.override("docker: {restart: allow}")
		},
		"intervals of a cluster-store": func(m *machine) {
			m.put("/etc/docker/daemon.json", `{"cluster-store-opts": {"discovery.heartbeat": "20", "discovery.ttl": "60"}, "userns-remap": ""}`)
		},
		"the usual configuration file as a flag": func(m *machine) {
			m.put("/etc/default/docker", "DOCKER_OPTS=\"--config-file /etc/docker/daemon.json\"\n")
		},
		"clusterStore off, one set":  func(m *machine) { m.docker.shownStore = "consul://x"; m.override(`docker: {clusterStore: "off"}`) },
		"a flag in a comment":        func(m *machine) { m.put("/etc/default/docker", "  # DOCKER_OPTS=--cluster-store=x\n") },
		"a hand-written daemon.json": func(m *machine) { m.put("/etc/docker/daemon.json", `{"debug":true}`) },
	}
}

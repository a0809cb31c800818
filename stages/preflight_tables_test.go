package stages_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

func wrongHosts() []wrong {
	named := func(name string) func(*machine) {
		return func(m *machine) { m.put("/proc/sys/kernel/hostname", name+"\n") }
	}
	return []wrong{
		{name: "architecture", when: "of a package at hand", words: []string{"s390x"}, arrange: func(m *machine) {
			putFile(m.t, "/", m.parts.rpm, minionsRPM(m.t, "s390x"), 0o600)
			m.put("/var/lib/firstboot/cache/"+sumOf(m.parts.rpm), minionsRPM(m.t, "s390x"))
			m.override(fmt.Sprintf("minions: {sha256: %q}", sumOf(m.parts.rpm)))
		}},
		{name: "host-name", when: "not the configured one", arrange: func(m *machine) { m.override("host: {name: other}") }, words: []string{"host1", "other", "set-hostname other"}},
		{name: "host-name", when: "empty", arrange: named("")},
		{name: "host-name", when: "localhost", arrange: named("localhost")},
		{name: "host-name", when: "localhost of a domain", arrange: named("localhost.localdomain")},
		{name: "host-name", when: "the kernel's own", arrange: named("(none)")},
		{name: "host-name", when: "upper case", arrange: named("Host1"), words: []string{"Host1", "hostnamectl set-hostname host1"}},
		{name: "host-name", when: "an underscore", arrange: named("host_1")},
		{name: "host-name", when: "a hyphen at the end", arrange: named("host1-.example")},
		{name: "localhost", when: "no file", arrange: func(m *machine) { m.remove("/etc/hosts") }, words: []string{"no such file", "echo '127.0.0.1 localhost' >> /etc/hosts"}},
		{name: "localhost", when: "in a comment", arrange: func(m *machine) { m.put("/etc/hosts", "# 127.0.0.1 localhost\n10.0.0.2 host1 # localhost\n") }, words: []string{"no IPv4 address for localhost"}},
		{name: "localhost", when: "by IPv6 only", arrange: func(m *machine) { m.put("/etc/hosts", "::1 localhost\n127.0.1.1 host1\n") }},
		{name: "localhost", when: "of the network", arrange: func(m *machine) { m.put("/etc/hosts", "10.0.0.2 localhost\n") }},
		{name: "disk-space", when: "for calicoctl", arrange: func(m *machine) { m.net.free["/usr/bin"] = 100 << 20 }, words: []string{"/usr/bin", "100 MiB", "128 MiB"}},
		{name: "disk-space", when: "for the cache", arrange: func(m *machine) { m.net.free["/var/lib/firstboot"] = 1 << 20 }},
		{name: "disk-space", when: "for the image", words: []string{"/data/docker", "700 MiB"}, arrange: func(m *machine) {
			m.docker.dataRoot = "/data/docker"
			m.net.free["/data/docker"] = 600 << 20
		}},
		{name: "disk-space", when: "for the image, Docker stopped", words: []string{"/var/lib/docker"}, arrange: func(m *machine) {
			m.stopDocker()
			m.net.free["/var/lib/docker"] = 0
		}},
		{name: "baked-nodename", when: "of another host", arrange: func(m *machine) { m.put("/var/lib/calico/nodename", "golden\n") }, words: []string{"golden", "host1", "firstboot seal"}},
		{name: "artifact-missing", when: "calicoctl", arrange: func(m *machine) { m.override(`calicoctl: {url: "", sha256: ""}`) }, words: []string{"calicoctl.url", "bundle"}},
		{name: "artifact-missing", when: "the package", arrange: func(m *machine) { m.override(`minions: {url: "", sha256: ""}`) }, words: []string{"minions.url"}},
		{name: "artifact-missing", when: "only a sum", arrange: func(m *machine) { m.override(`calicoctl: {url: ""}`) }},
		{name: "rpm-missing", when: "", arrange: func(m *machine) { m.remove("/usr/bin/rpm") }, words: []string{"install the package rpm"}},
		{name: "image-by-tag", when: "", warning: true, arrange: func(m *machine) { m.override(`node: {url: "", sha256: ""}`) }, words: []string{"calico/node:v3.23.0", "by digest"}},
		{name: "node-image-version", when: "of another release", arrange: func(m *machine) { m.override(`node: {image: "calico/node:v3.22.1"}`) }, words: []string{"v3.22.1", "v3.23.0"}},
	}
}

func wrongKernels() []wrong {
	return []wrong{
		{name: "kernel-modules", when: "not found", arrange: func(m *machine) { m.modules["xt_set"], m.modules["nf_conntrack"] = false, false }, words: []string{"xt_set", "nf_conntrack", "uname -r"}},
		{name: "kernel-modules", when: "for IPIP", words: []string{"ipip"}, arrange: func(m *machine) {
			m.override("pool: {ipip: Always}")
			m.modules["ipip"] = false
		}},
		{name: "apparmor-parser", when: "", arrange: func(m *machine) { m.put("/sys/module/apparmor/parameters/enabled", "Y\n") }, words: []string{"apparmor=0"}},
		{name: "forward-policy", when: "", warning: true, arrange: func(m *machine) { m.forward = "-P FORWARD DROP\n" }, words: []string{"DROP", "ACCEPT"}},
		{name: "networkmanager", when: "without its folder", warning: true, arrange: func(m *machine) {
			m.put(units.Dir+"/NetworkManager.service", "[Service]\nExecStart=/usr/sbin/NetworkManager\n")
			m.boot("NetworkManager.service")
		}},
	}
}

func wrongNetworks() []wrong {
	route := func(to, by string, protocol int) func(*machine) {
		return func(m *machine) {
			m.net.routes = append(m.net.routes, host.Route{Destination: netip.MustParsePrefix(to), Gateway: netip.MustParseAddr(by), Interface: "eth0", Protocol: protocol})
		}
	}
	return []wrong{
		{name: "address", when: "not here", arrange: func(m *machine) { m.override("host: {address: 10.0.0.99}") }, words: []string{"10.0.0.99", "10.0.0.2 (eth0)"}},
		{name: "address", when: "no such interface", arrange: func(m *machine) { m.override("host: {address: interface=eth9}") }, words: []string{"interface=eth9"}},
		{name: "address", when: "none of the network", arrange: func(m *machine) { m.override("host: {address: 192.168.0.0/16}") }},
		{name: "address", when: "etcd here, and two addresses", words: []string{"10.0.0.2", "10.1.0.1", "set host.address"}, arrange: func(m *machine) {
			m.net.source = netip.MustParseAddr("127.0.0.1")
			m.net.add("eth1", "10.1.0.1/24")
		}},
		{name: "default-route", when: "none", arrange: func(m *machine) { m.net.routes = m.net.routes[1:] }},
		{name: "ipv6-in-use", when: "a global address", arrange: func(m *machine) { m.net.add("eth0", "2001:db8::5/64") }, words: []string{"2001:db8::5 (eth0)"}},
		{name: "bgp-port", when: "another daemon", words: []string{"10.0.0.2:179", "ss -ltnp"}, arrange: func(m *machine) {
			m.net.listening[netip.AddrPortFrom(m.net.eth0(), 179)] = true
		}},
		{name: "bgp-port", when: "another daemon, our container stopped", arrange: func(m *machine) {
			m.net.listening[netip.AddrPortFrom(m.net.eth0(), 179)] = true
			m.docker.containers["calico-node"] = &container{Name: "calico-node"}
		}},
		{name: "cidr-overlap", when: "an address", arrange: func(m *machine) { m.net.add("eth1", "10.213.7.1/24") }, words: []string{"10.213.0.0/16", "10.213.7.0/24 on eth1"}},
		{name: "cidr-overlap", when: "a wider network", arrange: func(m *machine) { m.override("pool: {cidr: 10.0.0.0/24}") }, words: []string{"10.0.0.0/24 on eth0"}},
		{name: "cidr-overlap", when: "a route", arrange: route("10.192.0.0/10", "10.0.0.254", 4), words: []string{"10.192.0.0/10 routed by 10.0.0.254"}},
		{name: "cidr-overlap", when: "another network of Docker", words: []string{"Docker's network old", "docker network rm old"}, arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("old", "bridge", "10.213.0.0/24"))
		}},
		{name: "cidr-overlap", when: "a second network over the pool", warning: true, words: []string{"thief", "docker network rm thief"}, arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("thief", "calico", "10.213.0.0/16"))
		}},
		{name: "cidr-overlap", when: "the pool's name with another driver", arrange: func(m *machine) {
			m.docker.own = append(m.docker.own, dockerNetwork("firstboot", "bridge", "10.213.0.0/24"))
		}},
		{name: "cidr-overlap", when: "the bridge that Docker will make", words: []string{"172.17.0.0/16"}, arrange: func(m *machine) {
			m.stopDocker()
			m.net.addresses = m.net.addresses[:4]
			m.override("pool: {cidr: 172.17.128.0/17}")
		}},
	}
}

func dockerNetwork(name, driver, subnet string) host.DockerNetwork {
	n := host.DockerNetwork{ID: digest(name), Name: name, Driver: driver}
	n.IPAM.Driver = map[string]string{"calico": "calico-ipam"}[driver]
	n.IPAM.Config = append(n.IPAM.Config, struct{ Subnet string }{subnet})
	return n
}

func wrongDockers() []wrong {
	version := func(v string) func(*machine) {
		return func(m *machine) { m.docker.version = v }
	}
	const other = "etcd://10.0.0.9:2379"
	return []wrong{
		{name: "docker-missing", when: "no program", words: []string{"docker.io"}, arrange: func(m *machine) {
			m.stopDocker()
			m.remove("/usr/sbin/dockerd")
		}},
		{name: "docker-missing", when: "no unit", words: []string{"no such unit"}, arrange: func(m *machine) {
			m.stopDocker()
			m.remove(units.Dir + "/docker.service")
			m.systemd.units[units.Docker].read = ""
		}},
		{name: "docker-missing", when: "masked", words: []string{"systemctl unmask docker"}, arrange: func(m *machine) {
			m.stopDocker()
			m.systemd.units[units.Docker].masked = true
		}},
		{name: "docker-version", when: "before 19.03", arrange: version("18.09.9"), words: []string{"18.09.9", "19.03 to 20.10"}},
		{name: "docker-version", when: "19.02", arrange: version("19.02.1")},
		{name: "docker-version", when: "23", arrange: version("23.0.6"), words: []string{"no cluster-store"}},
		{name: "docker-version", when: "28", arrange: version("28.1.1")},
		{name: "docker-version", when: "nonsense", arrange: version("dev")},
		{name: "docker-version", when: "24, stopped", words: []string{"24.0.7"}, arrange: func(m *machine) {
			m.docker.version = "24.0.7"
			m.stopDocker()
		}},
		{name: "docker-cluster-store", when: "off, and none", arrange: func(m *machine) { m.override(`docker: {clusterStore: "off"}`) }, words: []string{"docker.clusterStore"}},
		{name: "docker-cluster-store", when: "a swarm", arrange: func(m *machine) { m.docker.swarm = "active" }, words: []string{"docker swarm leave"}},
		{name: "docker-cluster-store", when: "a flag of the unit", words: []string{"--cluster-store"}, arrange: func(m *machine) {
			m.put(units.AdminDir+"/docker.service.d/site.conf", "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --cluster-store=etcd://x:2379\n")
			_ = m.systemd.job("daemon-reload", "")
		}},
		{name: "docker-cluster-store", when: "a flag of Debian's defaults", words: []string{"--cluster-advertise"}, arrange: func(m *machine) {
			m.put("/etc/default/docker", "# DOCKER_OPTS=\nDOCKER_OPTS=\"--cluster-advertise=eth0:2376\"\n")
		}},
		{name: "docker-cluster-store", when: "a damaged daemon.json", arrange: func(m *machine) { m.put("/etc/docker/daemon.json", "{\"debug\": true") }, words: []string{"/etc/docker/daemon.json", "repair"}},
		{name: "foreign-containers", when: "another store in force", words: []string{other, "shop", "docker.restart: allow"}, arrange: func(m *machine) {
			m.docker.shown, m.docker.inForce = other, other
			m.docker.containers["shop"] = &container{Name: "shop", Running: true}
		}},
	}
}

func wrongClusters() []wrong {
	return []wrong{
		{name: "calico-version", when: "of the cluster", words: []string{"v3.22.0", "v3.23.0"}, arrange: func(m *machine) {
			m.fabric.store("clusterinformations", "default", resource("ClusterInformation", "default", map[string]any{"calicoVersion": "v3.22.0"}))
		}},
		{name: "node-name-taken", when: "by another address", words: []string{"10.0.0.77", "10.0.0.2", "calicoctl delete node host1"}, arrange: func(m *machine) {
			m.fabric.store("nodes", "host1", resource("Node", "host1", map[string]any{"bgp": map[string]any{"ipv4Address": "10.0.0.77/24"}}))
		}},
	}
}

func rightHosts() map[string]func(*machine) {
	ours := func(m *machine, address string) {
		m.fabric.store("nodes", "host1", resource("Node", "host1", map[string]any{"bgp": map[string]any{"ipv4Address": address}}))
	}
	return map[string]func(*machine){
		"a bare host":                    func(*machine) {},
		"a host that has joined":         joined,
		"a stopped Docker":               func(m *machine) { m.stopDocker() },
		"Docker 19.03":                   func(m *machine) { m.docker.version = "19.03.15" },
		"a reinstalled host":             func(m *machine) { ours(m, "10.0.0.2/24") },
		"a Node without an address":      func(m *machine) { ours(m, "") },
		"its name in upper case in etcd": func(m *machine) { m.fabric.store("nodes", "HOST1", resource("Node", "HOST1", map[string]any{})) },
		"a name with a domain":           func(m *machine) { m.put("/proc/sys/kernel/hostname", "host1.example.org\n") },
		"localhost among others": func(m *machine) {
			m.put("/etc/hosts", "127.0.1.1 host1\n\t127.0.0.1\thost1.example.org LocalHost. loghost # own\n::1 localhost\n")
		},
		"the configured name":     func(m *machine) { m.override("host: {name: host1}") },
		"an address by interface": func(m *machine) { m.override("host: {address: interface=eth0}") },
		"an address by network":   func(m *machine) { m.override("host: {address: 10.0.0.0/24}") },
		"etcd here, and one address": func(m *machine) {
			m.net.source = netip.MustParseAddr("127.0.0.1")
		},
		"modules loaded that modprobe does not know": func(m *machine) {
			m.modules = map[string]bool{}
			for _, name := range []string{"nf_conntrack", "ip6_tables", "xt_set"} {
				m.put("/sys/module/"+name+"/initstate", "live\n")
			}
		},
		"no IPIP, so no ipip module": func(m *machine) { m.modules["ipip"] = false },
		"IPv6 of containers only":    func(m *machine) { m.net.add("docker0", "2001:db8:1::1/64") },
		"IPv6 that stays on": func(m *machine) {
			m.net.add("eth0", "2001:db8::5/64")
			m.override(`sysctl: {net.ipv6.conf.all.disable_ipv6: "0"}`)
		},
		"AppArmor with its parser": func(m *machine) {
			m.put("/sys/module/apparmor/parameters/enabled", "Y\n")
			m.program("/usr/sbin/apparmor_parser", "")
		},
		"AppArmor off":                func(m *machine) { m.put("/sys/module/apparmor/parameters/enabled", "N\n") },
		"Docker's own forward policy": func(m *machine) { m.forward = "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n" },
		"no iptables":                 func(m *machine) { m.forward = "-P FORWARD DROP\n"; m.remove("/usr/sbin/iptables") },
		"NetworkManager with a folder": func(m *machine) {
			m.put("/etc/NetworkManager/NetworkManager.conf", "")
			m.put(units.Dir+"/NetworkManager.service", "[Service]")
			m.boot("NetworkManager.service")
		},
		"its own nodename":  func(m *machine) { m.put("/var/lib/calico/nodename", "host1") },
		"an empty nodename": func(m *machine) { m.put("/var/lib/calico/nodename", "\n") },
		"no room, and all there": func(m *machine) {
			m.put("/usr/bin/calicoctl", "")
			m.program("/usr/bin/calicoctl", calicoctlScript("v3.23.0"))
			m.docker.images["calico/node:v3.23.0"] = image{ID: "sha256:1"}
			m.net.free["/usr/bin"], m.net.free["/var/lib/docker"], m.net.free["/var/lib/firstboot"] = 0, 0, 0
		},
		"no room, and the image in a stopped Docker": func(m *machine) {
			m.stopDocker()
			m.net.free["/var/lib/docker"] = 0
			m.put("/var/lib/docker/image/overlay2/repositories.json", `{"Repositories":{"calico/node":{"calico/node:v3.23.0":"sha256:1"}}}`)
		},
		"calicoctl there already": func(m *machine) {
			m.program("/usr/bin/calicoctl", calicoctlScript("v3.23.0"))
			m.override(`calicoctl: {url: "", sha256: ""}`)
		},
		"the package there already": func(m *machine) {
			m.rpmInstall([]string{"--nodeps", m.parts.rpm})
			m.override(`minions: {url: "", sha256: ""}`)
		},
		"everything in a bundle": func(m *machine) {
			m.bundle()
			m.override(`{calicoctl: {url: "", sha256: ""}, minions: {url: "", sha256: ""}, node: {url: "", sha256: ""}}`)
		},
		"an image by digest": func(m *machine) {
			m.override(`node: {url: "", sha256: "", image: "calico/node@sha256:` + strings.Repeat("a", 64) + `"}`)
		},
		"an image there already": func(m *machine) {
			m.docker.images["calico/node:v3.23.0"] = image{ID: "sha256:1"}
			m.override(`node: {url: "", sha256: ""}`)
		},
		"foreign containers, and a first store": func(m *machine) { m.docker.containers["shop"] = &container{Name: "shop", Running: true} },
		"another store, and nobody to stop": func(m *machine) {
			m.docker.shown = "etcd://10.0.0.9:2379"
			m.docker.containers["calico-node"] = &container{Name: "calico-node", Running: true}
			m.docker.containers["old"] = &container{Name: "old"}
		},
		"another store, and leave to restart": func(m *machine) {
			m.docker.shown = "etcd://10.0.0.9:2379"
			m.docker.containers["shop"] = &container{Name: "shop", Running: true}
			m.override("docker: {restart: allow}")
		},
		"the store off, and one there": func(m *machine) { m.docker.shown = "consul://x"; m.override(`docker: {clusterStore: "off"}`) },
		"a flag in a comment":          func(m *machine) { m.put("/etc/default/docker", "  # DOCKER_OPTS=--cluster-store=x\n") },
		"a hand-written daemon.json":   func(m *machine) { m.put("/etc/docker/daemon.json", `{"debug":true}`) },
	}
}

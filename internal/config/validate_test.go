package config

import (
	"os"
	"strings"
	"testing"
)

// loadWithDropIn loads the minimal configuration with a drop-in.
func loadWithDropIn(t *testing.T, dropIn string) (*Loaded, error) {
	t.Helper()
	return Load(t.Context(), Options{Root: rootWith(t, map[string]string{MainFile: minimal, DropInDir + "/x.yaml": dropIn})})
}

// TestValidValues lists values that must be accepted.
func TestValidValues(t *testing.T) {
	for _, text := range []string{
		"etcd: {endpoints: [http://etcd.example.com:2379, http://etcd-1:4001]}",
		"etcd: {endpoints: [https://10.0.0.1:2379]}", "etcd: {endpoints: [https://a:1, https://b:1], caFile: /etc/ca.pem, certFile: /etc/c.pem, keyFile: /etc/c.key, username: host1}",
		"docker: {network: auto}", "docker: {network: local}", "docker: {network: global}",
		"host: {name: web-1}", "host: {name: web-1.example.com}", "host: {name: a}", "host: {name: 1a}",
		"host: {address: 10.0.0.1}", "host: {address: 10.0.0.0/24}", "host: {address: interface=eth0}", "host: {address: interface=enp1s0f0.100}",
		"host: {address: 8.8.8.8}",
		"sysctl: {net.ipv4.ip_forward: \"1\"}", "sysctl: {net.ipv4.conf.eth0/5.rp_filter: 0}", "sysctl: {vm.swappiness: 10}",
		"sysctl: {net.ipv4.tcp_mem: \"1 2 3\"}", "sysctl: {net.core.somaxconn: 0x1000, net.ipv4.conf.all.rp_filter: 02}",
		"sysctl: {net.core.default_qdisc: fq, net.ipv4.tcp_congestion_control: bbr, kernel.core_pattern: core, net.ipv4.ip_local_reserved_ports: \"8080,30000-32767\"}", "sysctl: {net.ipv6.conf.all.disable_ipv6: true}",
		"calicoctl: {version: v3.1.0}", "calicoctl: {version: v3.30.12}",
		"calicoctl: {url: /srv/calicoctl, sha256: " + sampleDigest + "}", "calicoctl: {url: \"file:///srv/calicoctl\", sha256: " + sampleDigest + "}",
		"calicoctl: {url: \"https://u:p@h:8443/x?y=z\", sha256: " + sampleDigest + "}", "calicoctl: {sha256: " + sampleDigest + "}",
		"node: {image: \"calico/node@sha256:" + sampleDigest + "\"}", "node: {image: \"registry.example.com:5000/calico/node:v3.23.0\"}",
		"node: {url: /srv/node.tar, sha256: " + sampleDigest + "}", "node: {asNumber: 1}", "node: {asNumber: 4294967295}",
		"node: {environment: {FELIX_LOGSEVERITYSCREEN: debug, _A1: \"\", B: 1, C: true, D: 1.5}}",
		"minions: {url: http://h/x.rpm, sha256: " + sampleDigest + "}", "minions: {url: http://h/x.rpm, signedBy: /etc/key.asc}",
		"minions: {environment: {CALICO_LIBNETWORK_VETH_MTU: 1440}}",
		"docker: {clusterStore: off}", "docker: {clusterStore: \"etcd://10.0.0.1:2379\"}", "docker: {clusterStore: \"etcd://a:1,b:2/prefix\"}", "docker: {restart: allow}",
		"pool: {name: a.b-c.d1}", "pool: {name: a, network: My_net.1}", "pool: {cidr: 192.168.0.0/20}", "pool: {cidr: 172.16.0.0/12}",
		"pool: {blockSize: 20}", "pool: {blockSize: 32}", "pool: {cidr: 10.1.0.0/26, blockSize: 26}", "pool: {ipip: CrossSubnet}",
		"bgp: {topology: mesh}", "fleet: {report: false, maxJoining: 1}", "preflight: {ignore: [clock, disk-space]}", "preflight: {ignore: []}",
		"report: {url: \"https://boot.example.com/done\"}", "proxy: {http: \"http://p:3128\", https: \"socks5://p\", no: \"localhost,.example.com\"}",
		"timeouts: {download: 1s, node: 1h30m, total: 0}", "timeouts: {total: 0s}",
	} {
		if _, err := loadWithDropIn(t, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestInvalidValues lists values that must be rejected, with the message.
func TestInvalidValues(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		// etcd
		{"etcd: {endpoints: [10.0.0.1:2379]}", `1:20: etcd.endpoints: an endpoint has no scheme (did you mean "http://10.0.0.1:2379"?)`},
		{"etcd: {endpoints: [etcd]}", `an endpoint has no scheme (write http://HOST:2379)`},
		{"etcd: {endpoints: [\"\"]}", `contains an empty endpoint`},
		{"etcd: {endpoints: [http://10.0.0.1]}", `"http://10.0.0.1" has no port (did you mean "http://10.0.0.1:2379"?)`},
		{"etcd: {endpoints: [\"http://10.0.0.1:2379/\"]}", `"http://10.0.0.1:2379" must not have a path or query (did you mean "http://10.0.0.1:2379"?)`},
		{"etcd: {endpoints: [\"http://10.0.0.1:2379?a\"]}", `must not have a path or query`},
		{"etcd: {endpoints: [\"http://10.0.0.1:2379#a\"]}", `must not have a path or query`},
		{"etcd: {endpoints: [tcp://10.0.0.1:2379]}", `an endpoint has the unsupported scheme "tcp"`},
		{"etcd: {endpoints: [http://10.0.0.1:70000]}", `"70000" is not a port`},
		{"etcd: {endpoints: [http://10.0.0.300:2379]}", `"10.0.0.300" is not an IP address`},
		{"etcd: {endpoints: [http://0.0.0.0:2379]}", `"0.0.0.0" is not a server address`},
		{"etcd: {endpoints: [http://et_cd:2379]}", `"et_cd" is not a host name or IP address`},
		{"etcd: {endpoints: [http://:2379]}", `"" is not a host name or IP address`},
		{"etcd: {endpoints: [http://a:1, http://a:1]}", `1:32: etcd.endpoints: duplicate endpoint "http://a:1"`},
		{"etcd: {endpoints: [https://10.0.0.1]}", `has no port (did you mean "https://10.0.0.1:2379"?)`},
		{"etcd: {endpoints: [\"https://10.0.0.1:2379/\"]}", `did you mean "https://10.0.0.1:2379"?`},
		{"etcd: {endpoints: [https://a:1, https://b:1, http://c:1]}", `1:46: etcd.endpoints: mixes http and https (use https for every endpoint, or http for every endpoint)`},
		{"etcd: {endpoints: [http://a:1, HTTPS://b:1]}", `mixes http and https`},
		{"etcd: {endpoints: [https://root:pw@a:1]}", `an endpoint contains a user or password (etcd's user is the CN of the client certificate`},
		{"etcd: {caFile: /etc/ca.pem}", `etcd.caFile: needs https endpoints`},
		{"etcd: {certFile: /etc/c.pem, keyFile: /etc/c.key}", `etcd.keyFile: needs https endpoints`},
		{"etcd: {endpoints: [https://a:1], caFile: ca.pem}", `etcd.caFile: must be the absolute path of a PEM file`},
		{"etcd: {endpoints: [https://a:1], certFile: /etc/../c.pem, keyFile: /etc/c.key}", `etcd.certFile: must be the absolute path of a PEM file`},
		{"etcd: {certFile: /etc/c.pem}", `etcd.certFile: needs etcd.keyFile`},
		{"etcd: {keyFile: /etc/c.key}", `etcd.keyFile: needs etcd.certFile`},
		{"etcd: {username: root}", `etcd.username: needs etcd.certFile`},
		{"etcd: {endpoints: [https://a:1], username: root}", `etcd.username: needs etcd.certFile`},
		{"etcd: {passwordFile: /etc/pw}", `etcd.passwordFile: eru-minions cannot use a password`},
		{"etcd: {endpoints: [https://a:1], certFile: /c, keyFile: /k, username: u, passwordFile: /etc/pw}", `eru-minions cannot use a password`},
		// host
		{"host: {name: Web-1}", `must be in lower case: Calico converts node names to lower case (did you mean "web-1"?)`},
		{"host: {name: localhost}", `"localhost" is not a unique host name`},
		{"host: {name: localhost4}", `"localhost4" is not a unique host name`},
		{"host: {name: localhost6.localdomain6}", `is not a unique host name`},
		{"host: {name: localhost.localdomain}", `is not a unique host name`},
		{"host: {name: web_1}", `is not an RFC 1123 name`},
		{"host: {name: -a}", `is not an RFC 1123 name`},
		{"host: {name: a..b}", `is not an RFC 1123 name`},
		{"host: {name: " + strings.Repeat("a", 64) + "}", `is not an RFC 1123 name`},
		{"host: {name: " + strings.Repeat("a.", 40) + "}", `is longer than 64 characters`},
		{"host: {address: eth0}", `"eth0" is not an IP address, a CIDR or interface=NAME`},
		{"host: {address: interface=}", `"" is not an interface name`},
		{"host: {address: interface=averyverylongname}", `is not an interface name`},
		{"host: {address: interface=a/b}", `is not an interface name`},
		{"host: {address: 10.0.0.5/24}", `"10.0.0.5/24" has host bits set (the network is 10.0.0.0/24, the address 10.0.0.5)`},
		{"host: {address: 127.0.0.1}", `"127.0.0.1" cannot be reached from other hosts`},
		{"host: {address: 169.254.1.1}", `cannot be reached from other hosts`},
		{"host: {address: \"fd00::1\"}", `must be IPv4`},
		// sysctl
		{"sysctl: {../../etc/passwd: 1}", `is not the name of a kernel setting`},
		{"sysctl: {-net.ipv4.ip_forward: 0}", `is not the name of a kernel setting`},
		{"sysctl: {net...x: 1}", `is not the name of a kernel setting`},
		{"sysctl: {a/../b.c: 1}", `is not the name of a kernel setting`},
		{"sysctl: {/proc/sys/vm/swappiness: 1}", `is not the name of a kernel setting (did you mean "vm.swappiness"?)`},
		{"sysctl: {net/ipv4/ip_forward: 1}", `is not the name of a kernel setting (did you mean "net.ipv4.ip_forward"?)`},
		{"sysctl: {\"a b.c\": 1}", `is not the name of a kernel setting`},
		{"sysctl: {vm: 1}", `is not the name of a kernel setting`},
		{"sysctl: {vm.a: \"\"}", `1:16: sysctl.vm.a: has an empty value`},
		{"sysctl: {net.core.somaxconn: 1_000}", `"1_000" is not a number that the kernel accepts (did you mean "1000"?)`},
		{"sysctl: {net.ipv4.tcp_fin_timeout: \"+45\"}", `"+45" is not a number that the kernel accepts (did you mean "45"?)`},
		{"sysctl: {net.ipv4.tcp_syncookies: yes}", `"yes" is not a number that the kernel accepts (did you mean "1"?)`},
		{"sysctl: {vm.swappiness: 08}", `"08" is not a number that the kernel accepts`},
		{"sysctl: {fs.file-max: 1e6}", `"1e6" is not a number that the kernel accepts`},
		{"sysctl: {net.ipv4.tcp_rmem: \"4096,131072,6291456\"}", `is not a number that the kernel accepts`},
		{"sysctl: {net.ipv4.ip_forward: 0}", `must be 1: Calico forwards at layer 3`},
		// artifacts
		{"calicoctl: {version: 3.23.0}", `"3.23.0" is not a release such as v3.23.0 (did you mean "v3.23.0"?)`},
		{"calicoctl: {version: v3.23}", `is not a release such as v3.23.0`},
		{"calicoctl: {version: v3.0.9}", `"v3.0.9" is not supported (use v3.1.0 or a later v3 release)`},
		{"calicoctl: {version: v2.6.12}", `is not supported`},
		{"calicoctl: {url: https://h/x}", `1:18: calicoctl.url: needs calicoctl.sha256`},
		{"node: {url: /srv/node.tar}", `node.url: needs node.sha256`},
		{"minions: {url: https://h/x.rpm}", `minions.url: needs minions.sha256 or minions.signedBy`},
		{"minions: {url: https://h/x.rpm, signedBy: key.asc}", `must be the absolute path of a public key`},
		{"calicoctl: {url: ftp://h/x, sha256: " + sampleDigest + "}", `must begin with http://, https:// or file://, or be an absolute path`},
		{"calicoctl: {url: calicoctl, sha256: " + sampleDigest + "}", `must begin with http://, https:// or file://, or be an absolute path`},
		{"calicoctl: {url: /srv/../x, sha256: " + sampleDigest + "}", `is not a clean path (did you mean "/x"?)`},
		{"calicoctl: {url: \"file://srv/x\", sha256: " + sampleDigest + "}", `must be file:// followed by an absolute path`},
		{"calicoctl: {url: \"http:///x\", sha256: " + sampleDigest + "}", `has no host`},
		{"calicoctl: {url: \"http://h:0/x\", sha256: " + sampleDigest + "}", `has an invalid port`},
		{"calicoctl: {url: \"http://h/a b\", sha256: " + sampleDigest + "}", `contains a space (write %20)`},
		{"calicoctl: {sha256: abc}", `calicoctl.sha256: must be 64 hexadecimal digits, not 3`},
		{"calicoctl: {sha256: " + sampleDigest[:32] + "}", `not 32 (this looks like an MD5)`},
		{"calicoctl: {sha256: " + sampleDigest + sampleDigest + "}", `not 128 (this looks like a SHA-512)`},
		{"calicoctl: {sha256: " + strings.ToUpper(sampleDigest) + "}", `in lower case, without a prefix (did you mean "` + sampleDigest + `"?)`},
		{"calicoctl: {sha256: \"sha256:" + sampleDigest + "\"}", `did you mean "` + sampleDigest + `"?`},
		{"calicoctl: {sha256: " + strings.Repeat("x", 64) + "}", `must be 64 hexadecimal digits`},
		{"node: {image: calico/node}", `"calico/node" has neither a tag nor a digest`},
		{"node: {image: \"calico/Node:v3\"}", `is not an image reference (did you mean "calico/node:v3"?)`},
		{"node: {image: \"\"}", `is not an image reference`},
		{"node: {image: \"calico/node@sha256:" + sampleDigest + "\", url: /x, sha256: " + sampleDigest + "}", `an image from an archive has no digest in Docker`},
		{"node: {asNumber: 0}", `must be from 1 to 4294967295`},
		// environments
		{"node: {environment: {lower: x}}", `node.environment: contains a key that is not a variable name (use only upper-case letters, digits and _; write NAME: VALUE with a space after the colon)`},
		{"node: {environment: {A-B: x}}", `is not a variable name`},
		{"node: {environment: {NODENAME: x}}", `node.environment.NODENAME: is set by firstboot (set host.name)`},
		{"node: {environment: {IP: x}}", `is set by firstboot (set host.address)`},
		{"node: {environment: {ETCD_ENDPOINTS: x}}", `is set by firstboot (set etcd.endpoints)`},
		{"node: {environment: {FELIX_HEALTHENABLED: false}}", `is set by firstboot`},
		{"minions: {environment: {HOSTNAME: x}}", `minions.environment.HOSTNAME: is set by firstboot`},
		{"minions: {environment: {ETCD_PASSWORD: x}}", `is set by firstboot (set etcd.endpoints)`},
		// docker
		{"docker: {clusterStore: \"consul://h:1\"}", `must be auto, off or etcd://HOST:PORT`},
		{"docker: {clusterStore: atuo}", `did you mean "auto"?`},
		{"docker: {clusterStore: \"etcd://h\"}", `"h" is not HOST:PORT (write etcd://HOST:2379)`},
		{"docker: {clusterStore: \"etcd://u:p@h:1\"}", `Docker cannot use an etcd user`},
		{"docker: {clusterStore: \"\"}", `must be auto, off or etcd://HOST:PORT`},
		{"docker: {network: swarm}", `must be auto, local or global, not "swarm"`},
		{"docker: {network: globl}", `did you mean "global"?`},
		{"docker: {network: global}\netcd: {endpoints: [https://10.0.0.1:2379]}", `1:19: docker.network: "global" needs http endpoints`},
		{"docker: {restart: always}", `must be deny or allow, not "always"`},
		// pool
		{"pool: {name: Pool}", `pool.name: must be in lower case (did you mean "pool"?)`},
		{"pool: {name: \"\"}", `pool.name: must not be empty`},
		{"pool: {name: a_b}", `is not an RFC 1123 name`},
		{"pool: {name: " + strings.Repeat("a.", 130) + "}", `is longer than 253 characters`},
		{"pool: {name: bridge}", `Docker reserves the network name "bridge"`},
		{"pool: {network: host}", `pool.network: Docker reserves the network name "host"`},
		{"pool: {network: \"a b\"}", `is not a Docker network name`},
		{"pool: {network: a}", `is not a Docker network name`},
		{"pool: {cidr: 10.213.7.0/16}", `1:14: pool.cidr: "10.213.7.0/16" has host bits set (did you mean "10.213.0.0/16"?)`},
		{"pool: {cidr: \"fd00::/64\"}", `must be IPv4`},
		{"pool: {cidr: 169.254.0.0/20}", `overlaps link-local addresses (169.254.0.0/16), which Calico rejects`},
		{"pool: {cidr: 127.0.0.0/16}", `overlaps the loopback network`},
		{"pool: {cidr: 224.0.0.0/16}", `overlaps multicast or reserved addresses`},
		{"pool: {cidr: 0.0.0.0/0}", `overlaps this network`},
		{"pool: {cidr: 10.0.0.0/8}", `10.0.0.0/8 contains the etcd server 10.0.0.1 (the pool must not overlap a physical network)`},
		{"host: {address: 10.213.0.9}", `/etc/firstboot/config.yaml:4:9: pool.cidr: 10.213.0.0/16 contains this host's address 10.213.0.9`},
		{"host: {address: 10.213.9.0/24}", `10.213.0.0/16 overlaps host.address 10.213.9.0/24`},
		{"pool: {blockSize: 19}", `must be from 20 to 32, not 19`},
		{"pool: {blockSize: 33}", `must be from 20 to 32, not 33`},
		{"pool: {cidr: 10.1.0.0/27}", `a /26 block is larger than the pool 10.1.0.0/27 (use 27 to 32)`},
		{"pool: {ipip: never}", `must be Never, Always or CrossSubnet, not "never" (did you mean "Never"?)`},
		{"pool: {ipip: VXLAN}", `"VXLAN" is not supported (VXLAN pools cannot be used, because eru-minions removes the pool's vxlanMode; use pool.ipip)`},
		// the rest
		{"bgp: {topology: reflectors}", `"reflectors" is not supported by this version (use mesh)`},
		{"bgp: {topology: auto}", `"auto" is not supported by this version`},
		{"bgp: {topology: meshed}", `must be mesh, reflectors or auto, not "meshed" (did you mean "mesh"?)`},
		{"fleet: {maxJoining: 0}", `must be at least 1`},
		{"preflight: {ignore: [clock, disk-spcae]}", `1:29: preflight.ignore: unknown value "disk-spcae" (did you mean "disk-space"?)`},
		{"preflight: {ignore: [everything]}", `unknown value "everything" (one of architecture, host-name,`},
		{"report: {url: /x}", `must begin with http:// or https://`},
		{"report: {url: \"file:///x\"}", `must begin with http:// or https://`},
		{"proxy: {http: \"p:3128\"}", `must begin with http://, https:// or socks5://`},
		{"timeouts: {total: -1s}", `must not be negative`},
		{"report: {waitingAfter: 5ms}", `report.waitingAfter: must be at least 1s, or 0 for no report`},
		{"report: {waitingAfter: -1m}", `report.waitingAfter: must not be negative`},
		{"timeouts: {total: 5ms}", `must be at least 1s, or 0 for no limit`},
		{"timeouts: {node: 0}", `must be at least 1s`},
		{"timeouts: {download: 10ms}", `must be at least 1s`},
	} {
		_, err := loadWithDropIn(t, c.text)
		problems, _ := IsInvalid(err)
		if problems == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
}

// TestEveryPreflightNameCanBeIgnored: and the names are valid and unique.
func TestEveryPreflightNameCanBeIgnored(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range PreflightNames() {
		if seen[name] || checkDNSName(name, 63) != "" {
			t.Errorf("%s is a duplicate or not a valid name", name)
		}
		seen[name] = true
		if _, err := loadWithDropIn(t, "preflight: {ignore: ["+name+"]}"); err != nil {
			t.Error(err)
		}
	}
}

// TestOverriddenValuesAreNotChecked: only the merged values are validated, so a
// later source can correct an invalid value.
func TestOverriddenValuesAreNotChecked(t *testing.T) {
	root := rootWith(t, map[string]string{
		VendorDir + "/a.yaml": "pool: {cidr: 169.254.0.0/16, ipip: VXLAN}\ncalicoctl: {url: http://h/x}\n",
		MainFile:              minimal + "  ipip: Always\ncalicoctl: {sha256: " + sampleDigest + "}\n",
	})
	mustLoad(t, Options{Root: root})
}

// TestUserIsTheCommonNameOfTheCertificate: on the machine itself the certificate
// is read. A certificate that cannot be read yet is not a mistake in the
// configuration.
func TestUserIsTheCommonNameOfTheCertificate(t *testing.T) {
	root := rootWith(t, map[string]string{MainFile: "etcd: {endpoints: [https://a:1], certFile: /c, keyFile: /k, username: host1}\npool: {cidr: 10.213.0.0/16}\n"})
	const want = `/etc/firstboot/config.yaml:1:71: etcd.username: "host1" is not the CN of /c, which is "host2"`
	for _, c := range []struct {
		cn   string
		err  error
		want string
	}{{"host1", nil, ""}, {"host2", nil, want}, {"", os.ErrNotExist, ""}} {
		_, err := Load(t.Context(), Options{Root: root, CommonName: func(path string) (string, error) {
			if path != "/c" {
				t.Errorf("reads %s", path)
			}
			return c.cn, c.err
		}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("CN %q: %v, want %q", c.cn, err, c.want)
		}
	}
}

func TestClusterStoreOfALocalNetworkIsAWarning(t *testing.T) {
	for text, want := range map[string]string{
		"docker: {network: local, clusterStore: \"etcd://a:1\"}":                             "has no effect with docker.network: local",
		"docker: {clusterStore: \"etcd://a:1\"}\netcd: {endpoints: [https://10.0.0.1:2379]}": "has no effect with https endpoints",
		"docker: {network: local}":               "",
		"docker: {clusterStore: \"etcd://a:1\"}": "",
	} {
		l, err := loadWithDropIn(t, text)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, w := range l.Warnings {
			all.WriteString(w.Error())
		}
		if strings.Contains(all.String(), "has no effect") != (want != "") || !strings.Contains(all.String(), want) {
			t.Errorf("%s: %s, want %q", text, all.String(), want)
		}
	}
}

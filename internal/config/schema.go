package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// key is one line of the schema: everything that reads, merges, shows, saves
// or documents the configuration goes through this table. What a key holds
// follows from the type of its field.
type key struct {
	path   string            // "etcd.endpoints"
	field  func(*Config) any // pointer to its field
	help   string            // one line for the JSON Schema and the documentation
	values []string          // the only values allowed, as text; nil: any
}

// isMap tells whether the key holds entries of the user's naming, each merged
// by itself.
func (k key) isMap() bool {
	switch k.field(new(Config)).(type) {
	case *map[string]string, *map[string]Secret:
		return true
	}
	return false
}

// schema lists every key, in the order shown to people.
func schema() []key {
	return slices.Concat(clusterKeys(), artifactKeys(), poolKeys(), runKeys())
}

func clusterKeys() []key {
	return []key{
		{path: "etcd.endpoints", field: func(c *Config) any { return &c.Etcd.Endpoints }, help: "etcd servers, each http://HOST:PORT; required"},
		{path: "etcd.caFile", field: func(c *Config) any { return &c.Etcd.CAFile }, help: "path of the CA certificate for etcd"},
		{path: "etcd.certFile", field: func(c *Config) any { return &c.Etcd.CertFile }, help: "path of the client certificate for etcd"},
		{path: "etcd.keyFile", field: func(c *Config) any { return &c.Etcd.KeyFile }, help: "path of the client key for etcd"},
		{path: "etcd.username", field: func(c *Config) any { return &c.Etcd.Username }, help: "etcd user"},
		{path: "etcd.passwordFile", field: func(c *Config) any { return &c.Etcd.PasswordFile }, help: "path of a file that holds the etcd user's password"},
		{path: "host.name", field: func(c *Config) any { return &c.Host.Name }, help: "the machine's host name; empty: as it is"},
		{path: "host.address", field: func(c *Config) any { return &c.Host.Address }, help: "an IPv4 address, a CIDR to choose one from, or interface=NAME; empty: the address that reaches etcd"},
		{path: "sysctl", field: func(c *Config) any { return &c.Sysctl }, help: "kernel settings by their dotted names, merged over the defaults"},
	}
}

func artifactKeys() []key {
	return []key{
		{path: "calicoctl.version", field: func(c *Config) any { return &c.Calicoctl.Version }, help: "Calico release, vX.Y.Z"},
		{path: "calicoctl.url", field: func(c *Config) any { return &c.Calicoctl.URL }, help: "the calicoctl binary: http, https, file or an absolute path; empty: from the bundle or the machine"},
		{path: "calicoctl.sha256", field: func(c *Config) any { return &c.Calicoctl.SHA256 }, help: "SHA-256 of the calicoctl binary; required with url"},
		{path: "node.image", field: func(c *Config) any { return &c.Node.Image }, help: "the calico-node image, with a tag or a digest"},
		{path: "node.url", field: func(c *Config) any { return &c.Node.URL }, help: "an archive of that image for docker load; empty: from the bundle, the machine, or pulled"},
		{path: "node.sha256", field: func(c *Config) any { return &c.Node.SHA256 }, help: "SHA-256 of the image archive; required with url"},
		{path: "node.asNumber", field: func(c *Config) any { return &c.Node.ASNumber }, help: "BGP autonomous system number, 1–4294967295"},
		{path: "node.environment", field: func(c *Config) any { return &c.Node.Environment }, help: "variables added to the calico-node container; values are treated as secrets"},
		{path: "docker.clusterStore", field: func(c *Config) any { return &c.Docker.ClusterStore }, help: "auto: from etcd.endpoints; off: leave daemon.json alone; or etcd://HOST:PORT"},
		{path: "docker.restart", field: func(c *Config) any { return &c.Docker.Restart }, help: "whether a restart of Docker may stop containers that are not firstboot's", values: []string{RestartDeny, RestartAllow}},
		{path: "minions.url", field: func(c *Config) any { return &c.Minions.URL }, help: "the eru-minions RPM: http, https, file or an absolute path; empty: from the bundle or the machine"},
		{path: "minions.sha256", field: func(c *Config) any { return &c.Minions.SHA256 }, help: "SHA-256 of the RPM; this or signedBy is required with url"},
		{path: "minions.signedBy", field: func(c *Config) any { return &c.Minions.SignedBy }, help: "path of the OpenPGP public key that signed the RPM"},
		{path: "minions.environment", field: func(c *Config) any { return &c.Minions.Environment }, help: "variables added to /etc/eru/minions.conf; values are treated as secrets"},
	}
}

func poolKeys() []key {
	return []key{
		{path: "pool.name", field: func(c *Config) any { return &c.Pool.Name }, help: "name of Calico's IPPool"},
		{path: "pool.cidr", field: func(c *Config) any { return &c.Pool.CIDR }, help: "addresses for containers, IPv4, not used by any physical network; required"},
		{path: "pool.blockSize", field: func(c *Config) any { return &c.Pool.BlockSize }, help: "prefix length of the block of addresses that a host takes, 20–32"},
		{path: "pool.natOutgoing", field: func(c *Config) any { return &c.Pool.NATOutgoing }, help: "whether containers reach the outside by the host's address"},
		{path: "pool.ipip", field: func(c *Config) any { return &c.Pool.IPIP }, help: "IP-in-IP between hosts", values: []string{IPIPNever, IPIPAlways, IPIPCrossSubnet}},
		{path: "pool.network", field: func(c *Config) any { return &c.Pool.Network }, help: "name of the Docker network; empty: the pool's name"},
		{path: "bgp.topology", field: func(c *Config) any { return &c.BGP.Topology }, help: "how nodes peer; this version knows mesh", values: []string{TopologyMesh, TopologyReflectors, TopologyAuto}},
	}
}

func runKeys() []key {
	return []key{
		{path: "fleet.report", field: func(c *Config) any { return &c.Fleet.Report }, help: "no effect yet: whether to keep a record of this host in etcd"},
		{path: "fleet.maxJoining", field: func(c *Config) any { return &c.Fleet.MaxJoining }, help: "no effect yet: hosts that may do cluster-wide work at the same time"},
		{path: "preflight.ignore", field: func(c *Config) any { return &c.Preflight.Ignore }, help: "preflight findings that only warn", values: PreflightNames()},
		{path: "report.url", field: func(c *Config) any { return &c.Report.URL }, help: "http or https address that is told by POST how the run ended"},
		{path: "proxy.http", field: func(c *Config) any { return &c.Proxy.HTTP }, help: "proxy for http downloads; empty: the environment's"},
		{path: "proxy.https", field: func(c *Config) any { return &c.Proxy.HTTPS }, help: "proxy for https downloads; empty: the environment's"},
		{path: "proxy.no", field: func(c *Config) any { return &c.Proxy.No }, help: "hosts reached without a proxy, as NO_PROXY; empty: the environment's"},
		{path: "timeouts.download", field: func(c *Config) any { return &c.Timeouts.Download }, help: "limit for one artifact, such as 10m"},
		{path: "timeouts.node", field: func(c *Config) any { return &c.Timeouts.Node }, help: "limit from the start of calico-node until it is ready"},
		{path: "timeouts.total", field: func(c *Config) any { return &c.Timeouts.Total }, help: "limit of the whole run; 0: until it is done"},
	}
}

// Default is the configuration before any source: everything that has a
// sensible value without knowing the cluster.
func Default() *Config {
	return &Config{
		Sysctl: map[string]string{
			// Calico forwards at layer 3.
			"net.ipv4.ip_forward": "1",
			// What calicoctl node run would set, too.
			"net.netfilter.nf_conntrack_max": "1000000",
			// With IPv6 on, Docker fails to start a container on the plugin's
			// network: "fe80::… permission denied" (measured on Docker 20.10).
			"net.ipv6.conf.all.disable_ipv6":     "1",
			"net.ipv6.conf.default.disable_ipv6": "1",
		},
		Calicoctl: Calicoctl{Version: "v3.23.0"},
		Node:      Node{Image: "calico/node:v3.23.0", ASNumber: 64512}, // Calico's own default AS
		Docker:    Docker{ClusterStore: ClusterStoreAuto, Restart: RestartDeny},
		Pool: Pool{
			Name: "firstboot", BlockSize: 26, // Calico's own default block
			NATOutgoing: true, IPIP: IPIPNever,
		},
		BGP:      BGP{Topology: TopologyMesh},
		Fleet:    Fleet{Report: true, MaxJoining: 50},
		Timeouts: Timeouts{Download: 10 * time.Minute, Node: 2 * time.Minute},
	}
}

// required are the keys without which there is no cluster to join.
func required() []string { return []string{"etcd.endpoints", "pool.cidr"} }

// find splits a flat path into the key that holds it and, where that key is a
// map, the entry's name.
func findKey(path string) (k key, entry string, ok bool) {
	for _, k := range schema() {
		if path == k.path {
			return k, "", true
		}
		if rest, cut := strings.CutPrefix(path, k.path+"."); cut && k.isMap() {
			return k, rest, true
		}
	}
	return key{}, "", false
}

// children are the names directly below a section; below "", the sections.
func childNames(section string) []string {
	var names []string
	for _, k := range schema() {
		rest := k.path
		if section != "" {
			var cut bool
			if rest, cut = strings.CutPrefix(k.path, section+"."); !cut {
				continue
			}
		}
		name, _, _ := strings.Cut(rest, ".")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// join puts a name below a section.
func joinPath(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

// setting is one effective value: a string, Secret, URL, bool, int, uint32,
// time.Duration, netip.Prefix or []string.
type setting struct {
	path  string
	value any
}

// flatten lists every value of c in the order of the schema, a map's entries
// by name.
func flatten(c *Config) []setting {
	var all []setting
	for _, k := range schema() {
		switch p := k.field(c).(type) {
		case *map[string]string:
			all = append(all, entries(k.path, *p)...)
		case *map[string]Secret:
			all = append(all, entries(k.path, *p)...)
		default:
			all = append(all, setting{k.path, deref(p)})
		}
	}
	return all
}

func entries[V any](path string, m map[string]V) []setting {
	var all []setting
	for name, v := range m {
		all = append(all, setting{joinPath(path, name), v})
	}
	slices.SortFunc(all, func(a, b setting) int { return strings.Compare(a.path, b.path) })
	return all
}

func deref(p any) any {
	switch p := p.(type) {
	case *string:
		return *p
	case *URL:
		return *p
	case *bool:
		return *p
	case *int:
		return *p
	case *uint32:
		return *p
	case *time.Duration:
		return *p
	case *netip.Prefix:
		return *p
	case *[]string:
		if len(*p) == 0 { // an empty list is the same as none
			return []string(nil)
		}
		return slices.Clone(*p)
	}
	panic("a field's type is missing in deref")
}

// assign puts a decoded value where the schema says.
func assign(c *Config, path string, value any) {
	k, entry, _ := findKey(path)
	switch p := k.field(c).(type) {
	case *map[string]string:
		put(p, entry, value.(string))
	case *map[string]Secret:
		put(p, entry, value.(Secret))
	case *string:
		*p = value.(string)
	case *URL:
		*p = value.(URL)
	case *bool:
		*p = value.(bool)
	case *int:
		*p = value.(int)
	case *uint32:
		*p = value.(uint32)
	case *time.Duration:
		*p = value.(time.Duration)
	case *netip.Prefix:
		*p = value.(netip.Prefix)
	case *[]string:
		*p = slices.Clone(value.([]string))
	}
}

func put[V any](m *map[string]V, name string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = value
}

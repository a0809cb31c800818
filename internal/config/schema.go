package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/secret"
)

// key is one entry of the schema. All code that reads, merges, shows, saves or
// documents the configuration uses this table. The type of a key's value is the
// type of its field.
type key struct {
	path   string            // "etcd.endpoints"
	field  func(*Config) any // returns a pointer to the field
	help   string            // one line for the JSON Schema and the documentation
	values []string          // the only values allowed, as text; nil: any
}

// isMap reports whether the value is a mapping whose keys the user chooses. Its
// entries are merged one by one.
func (k key) isMap() bool {
	switch k.field(new(Config)).(type) {
	case *map[string]string, *map[string]secret.Value:
		return true
	}
	return false
}

// schema returns every key, in the order of output.
func schema() []key {
	return slices.Concat(clusterKeys(), artifactKeys(), poolKeys(), runKeys())
}

func clusterKeys() []key {
	return []key{
		{path: "etcd.endpoints", field: func(c *Config) any { return &c.Etcd.Endpoints }, help: "etcd servers, each http://HOST:PORT or each https://HOST:PORT; required"},
		{path: "etcd.caFile", field: func(c *Config) any { return &c.Etcd.CAFile }, help: "path of the PEM file with the CA certificates of an etcd with TLS; empty: the system's"},
		{path: "etcd.certFile", field: func(c *Config) any { return &c.Etcd.CertFile }, help: "path of the PEM file with the client certificate for etcd; with users in etcd, its CN is the user"},
		{path: "etcd.keyFile", field: func(c *Config) any { return &c.Etcd.KeyFile }, help: "path of the PEM file with the key of etcd.certFile"},
		{path: "etcd.username", field: func(c *Config) any { return &c.Etcd.Username }, help: "etcd user; must be the CN of etcd.certFile"},
		{path: "etcd.passwordFile", field: func(c *Config) any { return &c.Etcd.PasswordFile }, help: "refused: eru-minions cannot use a password"},
		{path: "host.name", field: func(c *Config) any { return &c.Host.Name }, help: "the machine's host name; empty: the current one"},
		{path: "host.address", field: func(c *Config) any { return &c.Host.Address }, help: "an IPv4 address, a CIDR to choose one from, or interface=NAME; empty: the source address of connections to etcd"},
		{path: "sysctl", field: func(c *Config) any { return &c.Sysctl }, help: "kernel settings by their dotted names, merged with the defaults"},
	}
}

func artifactKeys() []key {
	return []key{
		{path: "calicoctl.version", field: func(c *Config) any { return &c.Calicoctl.Version }, help: "Calico release, vX.Y.Z"},
		{path: "calicoctl.url", field: func(c *Config) any { return &c.Calicoctl.URL }, help: "the calicoctl binary: an http, https or file URL, or an absolute path; empty: use the bundle or what is installed"},
		{path: "calicoctl.sha256", field: func(c *Config) any { return &c.Calicoctl.SHA256 }, help: "sha256 digest of the calicoctl binary; required with url"},
		{path: "node.image", field: func(c *Config) any { return &c.Node.Image }, help: "the calico-node image, with a tag or a digest"},
		{path: "node.url", field: func(c *Config) any { return &c.Node.URL }, help: "an archive of the image for docker load; empty: use the bundle, a loaded image, or pull it"},
		{path: "node.sha256", field: func(c *Config) any { return &c.Node.SHA256 }, help: "sha256 digest of the image archive; required with url"},
		{path: "node.asNumber", field: func(c *Config) any { return &c.Node.ASNumber }, help: "BGP autonomous system number, 1–4294967295"},
		{path: "node.environment", field: func(c *Config) any { return &c.Node.Environment }, help: "variables added to the calico-node container; values are treated as secrets"},
		{path: "docker.network", field: func(c *Config) any { return &c.Docker.Network }, help: "local: a Docker network for each host (Docker 19.03 to 29); global: one Docker network through the cluster-store (Docker 19.03 to 20.10, etcd with the v2 API and without TLS); auto: decided by preflight", values: []string{NetworkAuto, NetworkLocal, NetworkGlobal}},
		{path: "docker.clusterStore", field: func(c *Config) any { return &c.Docker.ClusterStore }, help: "for a global network: auto: derived from etcd.endpoints; off: daemon.json is not changed; or etcd://HOST:PORT"},
		{path: "docker.restart", field: func(c *Config) any { return &c.Docker.Restart }, help: "whether a restart of Docker may stop containers that firstboot did not create", values: []string{RestartDeny, RestartAllow}},
		{path: "minions.url", field: func(c *Config) any { return &c.Minions.URL }, help: "the eru-minions RPM: an http, https or file URL, or an absolute path; empty: use the bundle or what is installed"},
		{path: "minions.sha256", field: func(c *Config) any { return &c.Minions.SHA256 }, help: "sha256 digest of the RPM; this or signedBy is required with url"},
		{path: "minions.signedBy", field: func(c *Config) any { return &c.Minions.SignedBy }, help: "path of the OpenPGP public key that signed the RPM"},
		{path: "minions.environment", field: func(c *Config) any { return &c.Minions.Environment }, help: "variables added to /etc/eru/minions.conf; values are treated as secrets"},
	}
}

func poolKeys() []key {
	return []key{
		{path: "pool.name", field: func(c *Config) any { return &c.Pool.Name }, help: "name of Calico's IPPool"},
		{path: "pool.cidr", field: func(c *Config) any { return &c.Pool.CIDR }, help: "IPv4 addresses for containers; must not overlap a physical network; required"},
		{path: "pool.blockSize", field: func(c *Config) any { return &c.Pool.BlockSize }, help: "prefix length of a host's address block, 20–32"},
		{path: "pool.natOutgoing", field: func(c *Config) any { return &c.Pool.NATOutgoing }, help: "whether traffic from containers to addresses outside the pool uses the host's address"},
		{path: "pool.ipip", field: func(c *Config) any { return &c.Pool.IPIP }, help: "IP-in-IP between hosts", values: []string{IPIPNever, IPIPAlways, IPIPCrossSubnet}},
		{path: "pool.network", field: func(c *Config) any { return &c.Pool.Network }, help: "name of the Docker network; empty: the pool's name"},
		{path: "bgp.topology", field: func(c *Config) any { return &c.BGP.Topology }, help: "how nodes peer; this version supports only mesh", values: []string{TopologyMesh, TopologyReflectors, TopologyAuto}},
	}
}

func runKeys() []key {
	return []key{
		{path: "fleet.report", field: func(c *Config) any { return &c.Fleet.Report }, help: "whether to keep a record of this host in etcd; no effect yet"},
		{path: "fleet.maxJoining", field: func(c *Config) any { return &c.Fleet.MaxJoining }, help: "limit of hosts that do cluster-wide work at the same time; no effect yet"},
		{path: "preflight.ignore", field: func(c *Config) any { return &c.Preflight.Ignore }, help: "preflight findings to demote to warnings", values: PreflightNames()},
		{path: "report.url", field: func(c *Config) any { return &c.Report.URL }, help: "http or https URL that receives the result of a run by POST; shown without its path"},
		{path: "report.waitingAfter", field: func(c *Config) any { return &c.Report.WaitingAfter }, help: "how long a run waits for something until it reports the wait, such as 10m; 0: never"},
		{path: "proxy.http", field: func(c *Config) any { return &c.Proxy.HTTP }, help: "proxy for http downloads; empty: the environment variable"},
		{path: "proxy.https", field: func(c *Config) any { return &c.Proxy.HTTPS }, help: "proxy for https downloads; empty: the environment variable"},
		{path: "proxy.no", field: func(c *Config) any { return &c.Proxy.No }, help: "hosts to reach without a proxy, in the syntax of NO_PROXY; empty: the environment variable"},
		{path: "timeouts.download", field: func(c *Config) any { return &c.Timeouts.Download }, help: "limit for one artifact, such as 10m"},
		{path: "timeouts.node", field: func(c *Config) any { return &c.Timeouts.Node }, help: "limit from the start of calico-node until it is ready"},
		{path: "timeouts.total", field: func(c *Config) any { return &c.Timeouts.Total }, help: "limit of the whole run; 0: no limit"},
	}
}

// defaultsVersion is the version of the defaults. Raise it when the default of
// an existing key changes.
const defaultsVersion = 2

// Default returns the defaults of all keys that have one.
func Default() *Config {
	return &Config{
		Sysctl: map[string]string{
			// Calico forwards at layer 3.
			"net.ipv4.ip_forward": "1",
			// The value that calicoctl node run sets.
			"net.netfilter.nf_conntrack_max": "1000000",
		},
		Calicoctl: Calicoctl{Version: "v3.23.0"},
		Node:      Node{Image: "calico/node:v3.23.0", ASNumber: 64512}, // Calico's own default AS
		Docker:    Docker{Network: NetworkAuto, ClusterStore: ClusterStoreAuto, Restart: RestartDeny},
		Pool: Pool{
			Name: "firstboot", BlockSize: 26, // Calico's own default block
			NATOutgoing: true, IPIP: IPIPNever,
		},
		BGP:      BGP{Topology: TopologyMesh},
		Fleet:    Fleet{Report: true, MaxJoining: 50},
		Report:   Report{WaitingAfter: 10 * time.Minute},
		Timeouts: Timeouts{Download: 10 * time.Minute, Node: 2 * time.Minute},
	}
}

// required returns the keys that must be set.
func required() []string { return []string{"etcd.endpoints", "pool.cidr"} }

// findKey returns the key of a flat path and, if that key is a map, the name of
// the entry.
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

// childNames returns the names directly below a section; for "", the sections.
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

// joinPath returns the path of a name in a section.
func joinPath(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

// setting is one effective value: a string, a type of package secret, bool, int, uint32,
// time.Duration, netip.Prefix or []string.
type setting struct {
	path  string
	value any
}

// flatten returns every value of c in the order of the schema, with the entries
// of a map sorted by name.
func flatten(c *Config) []setting {
	var all []setting
	for _, k := range schema() {
		switch p := k.field(c).(type) {
		case *map[string]string:
			all = append(all, entries(k.path, *p)...)
		case *map[string]secret.Value:
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
	case *secret.URL:
		return *p
	case *secret.Webhook:
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
		if len(*p) == 0 { // an empty list equals no list
			return []string(nil)
		}
		return slices.Clone(*p)
	}
	panic("a field's type is missing in deref")
}

// assign sets the field of a flat path.
func assign(c *Config, path string, value any) {
	k, entry, _ := findKey(path)
	switch p := k.field(c).(type) {
	case *map[string]string:
		put(p, entry, value.(string))
	case *map[string]secret.Value:
		put(p, entry, value.(secret.Value))
	case *string:
		*p = value.(string)
	case *secret.URL:
		*p = value.(secret.URL)
	case *secret.Webhook:
		*p = value.(secret.Webhook)
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

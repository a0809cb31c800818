// Package config reads firstboot's configuration. It defines the keys and
// their defaults, reads and merges the sources, and validates the result. All
// problems are reported together, with file, line and column.
//
// It rejects values that cannot work on any machine, such as an unmasked CIDR.
// It does not examine the machine; that is the task of preflight.
package config

import (
	"net/netip"
	"time"

	"github.com/projecteru2/firstboot/internal/secret"
)

// Config is the effective configuration. It is validated once and not changed
// afterwards. Values that may be secret have a type of package secret, so
// printing, logging or marshalling a Config does not reveal them.
type Config struct {
	Etcd      Etcd
	Host      Host
	Sysctl    map[string]string // dotted key → value as written to /proc/sys, defaults included
	Calicoctl Calicoctl
	Node      Node
	Docker    Docker
	Minions   Minions
	Pool      Pool
	BGP       BGP
	Fleet     Fleet
	Preflight Preflight
	Report    Report
	Proxy     Proxy
	Timeouts  Timeouts
}

// Etcd configures the connection to Calico's datastore.
type Etcd struct {
	Endpoints    []string // scheme://host:port each, at least one, without a path; all http or all https
	CAFile       string   // PEM; empty: the system's CAs
	CertFile     string   // PEM; the client certificate, whose CN is the user of an etcd with users
	KeyFile      string   // PEM
	Username     string   // empty, or the CN of CertFile
	PasswordFile string   // always refused
}

// Host configures how this machine is known in the cluster.
type Host struct {
	Name    string // empty: the machine's host name
	Address string // an IP address, a CIDR to choose one from, or interface=NAME; empty: the source address of connections to etcd
}

// Calicoctl is the pinned calicoctl binary.
type Calicoctl struct {
	Version string     // vX.Y.Z
	URL     secret.URL // empty: use the bundle (by SHA256) or what is installed
	SHA256  string     // 64 lower-case hexadecimal digits
}

// Node is the calico-node container.
type Node struct {
	Image       string     // reference with a tag or a digest
	URL         secret.URL // an image archive for docker load; empty: use the bundle (by SHA256), a loaded image, or pull it
	SHA256      string
	ASNumber    uint32
	Environment map[string]secret.Value // added to the container's environment
}

// Docker configures what firstboot may change in the Docker daemon.
type Docker struct {
	Network      string // "auto", "local" or "global": who knows the Docker network, each host alone or all through the cluster-store
	ClusterStore string // "auto": derived from Etcd.Endpoints; "off": daemon.json is not changed; or etcd://HOST:PORT[,HOST:PORT…][/PREFIX]
	Restart      string // "deny" or "allow": whether a restart of Docker may stop containers that firstboot did not create
}

// Values of Docker.Network, Docker.ClusterStore and Docker.Restart.
const (
	NetworkAuto      = "auto"
	NetworkLocal     = "local"
	NetworkGlobal    = "global"
	ClusterStoreAuto = "auto"
	ClusterStoreOff  = "off"
	RestartDeny      = "deny"
	RestartAllow     = "allow"
)

// Minions is the eru-minions RPM, Docker's network plugin.
type Minions struct {
	URL         secret.URL
	SHA256      string
	SignedBy    string                  // absolute path of the armored OpenPGP public key that signed the RPM
	Environment map[string]secret.Value // added to /etc/eru/minions.conf
}

// Pool is the cluster's address pool and the Docker network over it.
type Pool struct {
	Name        string
	CIDR        netip.Prefix // IPv4, masked
	BlockSize   int          // prefix length of one host's block, 20–32
	NATOutgoing bool
	IPIP        string // IPIPNever, IPIPAlways or IPIPCrossSubnet
	Network     string // name of the Docker network; empty: the pool's name
}

// Values of Pool.IPIP, as Calico's ipipMode spells them.
const (
	IPIPNever       = "Never"
	IPIPAlways      = "Always"
	IPIPCrossSubnet = "CrossSubnet"
)

// NetworkName returns the name of the Docker network over this pool.
func (p Pool) NetworkName() string {
	if p.Network != "" {
		return p.Network
	}
	return p.Name
}

// BGP configures how the nodes exchange routes.
type BGP struct {
	Topology string // TopologyMesh; this version rejects the others
}

// Values of BGP.Topology.
const (
	TopologyMesh       = "mesh"
	TopologyReflectors = "reflectors"
	TopologyAuto       = "auto"
)

// Fleet configures what hosts share through etcd. It is not used yet.
type Fleet struct {
	Report     bool // keep a record of this host in etcd
	MaxJoining int  // limit of hosts that do cluster-wide work at the same time
}

// Preflight configures the preflight stage.
type Preflight struct {
	Ignore []string // findings, from PreflightNames, whose errors become warnings
}

// Report configures the report that is sent when a run ends or waits for long.
type Report struct {
	URL          secret.Webhook // receives the status JSON by POST; empty: no report
	WaitingAfter time.Duration  // how long a wait lasts until it is reported; 0: never
}

// Proxy is used for downloads, instead of the environment variables.
type Proxy struct {
	HTTP  secret.URL
	HTTPS secret.URL
	No    string // in the syntax of NO_PROXY
}

// Timeouts limit the parts of a run.
type Timeouts struct {
	Download time.Duration // one artifact
	Node     time.Duration // from the start of calico-node until it is ready
	Total    time.Duration // the whole run; 0: no limit
}

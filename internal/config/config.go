// Package config is the door through which a configuration comes in: its
// keys, their defaults, the sources they are read from, their merge, and the
// validation that says everything wrong at once, with file, line and column.
//
// It knows what can never work, whatever the machine (an unmasked CIDR, a
// plain-text promise that a component cannot keep). It does not look at the
// machine: what only the machine can tell is a preflight check.
package config

import (
	"net/netip"
	"time"
)

// Config is the effective configuration: validated once, immutable after.
// What may hold a secret is a Secret or a URL, so a Config can be printed,
// logged and marshalled without giving one away.
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

// Etcd says where Calico's datastore is and how to reach it.
type Etcd struct {
	Endpoints    []string // scheme://host:port each, at least one, without a path
	CAFile       string
	CertFile     string
	KeyFile      string
	Username     string
	PasswordFile string // path of a file that holds nothing but the password
}

// Host is who this machine is in the cluster.
type Host struct {
	Name    string // empty: the machine's host name
	Address string // an IP address, a CIDR to choose one from, interface=NAME; empty: the address that reaches etcd
}

// Calicoctl is the pinned calicoctl binary.
type Calicoctl struct {
	Version string // vX.Y.Z
	URL     URL    // empty: from the bundle (by SHA256) or the machine
	SHA256  string // 64 lower-case hexadecimal digits
}

// Node is the calico-node container.
type Node struct {
	Image       string // reference with a tag or a digest
	URL         URL    // an image archive for docker load; empty: from the bundle (by SHA256), the machine, or pulled
	SHA256      string
	ASNumber    uint32
	Environment map[string]Secret // added to the container's environment
}

// Docker is what firstboot may do to the Docker daemon.
type Docker struct {
	ClusterStore string // "auto": from Etcd.Endpoints; "off": leave daemon.json alone; or etcd://HOST:PORT[,HOST:PORT…][/PREFIX]
	Restart      string // "deny" or "allow": whether containers that are not ours may be stopped by a restart
}

// Values of Docker.ClusterStore and Docker.Restart.
const (
	ClusterStoreAuto = "auto"
	ClusterStoreOff  = "off"
	RestartDeny      = "deny"
	RestartAllow     = "allow"
)

// Minions is the eru-minions RPM, Docker's network plugin.
type Minions struct {
	URL         URL
	SHA256      string
	SignedBy    string            // absolute path of the armored OpenPGP public key that signed the RPM
	Environment map[string]Secret // added to /etc/eru/minions.conf
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

// NetworkName is the name of the Docker network over this pool.
func (p Pool) NetworkName() string {
	if p.Network != "" {
		return p.Network
	}
	return p.Name
}

// BGP is how the nodes exchange routes.
type BGP struct {
	Topology string // TopologyMesh; the others are refused by this version
}

// Values of BGP.Topology.
const (
	TopologyMesh       = "mesh"
	TopologyReflectors = "reflectors"
	TopologyAuto       = "auto"
)

// Fleet is what hosts tell each other through etcd. Nothing uses it yet.
type Fleet struct {
	Report     bool // keep a record of this host in etcd
	MaxJoining int  // hosts that may do cluster-wide work at the same time
}

// Preflight tunes the checks made before anything is changed.
type Preflight struct {
	Ignore []string // names of PreflightNames whose errors become warnings
}

// Report is whom to tell about the end of a run.
type Report struct {
	URL URL // receives the status JSON by POST; empty: nobody
}

// Proxy is used for downloads, instead of the environment's variables.
type Proxy struct {
	HTTP  URL
	HTTPS URL
	No    string // as NO_PROXY
}

// Timeouts bound the parts of a run.
type Timeouts struct {
	Download time.Duration // one artifact
	Node     time.Duration // calico-node from start to ready
	Total    time.Duration // the whole run; 0: until it is done
}

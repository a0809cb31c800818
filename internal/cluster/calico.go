package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Calico keeps its resources as JSON under this prefix, kind by kind.
const calicoPrefix = "/calico/resources/v3/projectcalico.org/"

// maxValue bounds a value that is decoded, in bytes. Calico's have a few
// kilobytes; etcd itself takes up to 1.5 MiB.
const maxValue = 1 << 20

// IPPool is a pool of addresses, as far as firstboot looks at it.
type IPPool struct {
	Name        string
	UID         string
	Annotations map[string]string
	CIDR        string
	// BlockSize is the prefix length of a host's block; 0 where the field is
	// missing.
	BlockSize   int
	NATOutgoing bool
	// IPIPMode and VXLANMode are empty where the field is missing.
	IPIPMode, VXLANMode string
	// HasVXLANMode tells whether spec.vxlanMode is there: Docker's plugin
	// writes the pool with an old struct and so strips newer fields.
	HasVXLANMode bool
	NodeSelector string
	Disabled     bool
	Revision     int64 // etcd's, of the last change
}

// Node is a host of the Calico network.
type Node struct {
	Name     string
	Labels   map[string]string
	Address  netip.Prefix // IPv4 of its BGP; zero where it has none
	ASNumber uint32       // 0: the cluster's default
	OrchRefs []OrchRef
	Revision int64
}

// OrchRef is how an orchestrator calls a Node.
type OrchRef struct {
	NodeName     string `json:"nodeName"`
	Orchestrator string `json:"orchestrator"`
}

// Profile is a set of rules for the containers of a network.
type Profile struct {
	Name string
	// AllowsAll tells whether it lets everything in and out: the one that
	// Docker's plugin makes does not.
	AllowsAll bool
	Revision  int64
}

// ClusterInfo is what Calico notes about the cluster.
type ClusterInfo struct {
	CalicoVersion string // "v3.23.0"; empty before the first calico-node
	GUID          string
	Ready         bool
}

// NetworkIDAnnotation binds an IPPool to the Docker network over it.
const NetworkIDAnnotation = "org.projectcalico.label.network.ID"

// NetworkID is the Docker network that the pool is bound to; empty: none.
func (p IPPool) NetworkID() string { return p.Annotations[NetworkIDAnnotation] }

// envelope is what all resources have in common.
type envelope struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name        string            `json:"name"`
		UID         string            `json:"uid"`
		Annotations map[string]string `json:"annotations"`
		Labels      map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec"`
}

// open reads a resource of one kind and its spec. Unknown fields are other
// versions', not errors.
func open(kind string, value []byte, spec any) (envelope, error) {
	var e envelope
	if len(value) > maxValue {
		return e, fmt.Errorf("it has more than %d bytes", maxValue)
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return e, fmt.Errorf("it is no JSON of a resource: %s", clean(err.Error()))
	}
	if e.Kind != kind {
		return e, fmt.Errorf("it is of kind %q", clean(e.Kind))
	}
	if !resourceName.MatchString(e.Metadata.Name) || len(e.Metadata.Name) > maxName {
		return e, fmt.Errorf("%q is no name of a resource", clean(e.Metadata.Name))
	}
	if len(e.Spec) == 0 || string(e.Spec) == "null" {
		return e, nil
	}
	if err := json.Unmarshal(e.Spec, spec); err != nil {
		return e, fmt.Errorf("its spec cannot be read: %s", clean(err.Error()))
	}
	return e, nil
}

// maxName is the length of the longest name that Calico and DNS take.
const maxName = 253

// resourceName is Calico's rule for names, with the upper case that older
// versions let through.
var resourceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

func decodePool(value []byte) (IPPool, error) {
	var spec struct {
		CIDR         string  `json:"cidr"`
		BlockSize    int     `json:"blockSize"`
		NATOutgoing  bool    `json:"natOutgoing"`
		IPIPMode     string  `json:"ipipMode"`
		VXLANMode    *string `json:"vxlanMode"`
		NodeSelector string  `json:"nodeSelector"`
		Disabled     bool    `json:"disabled"`
	}
	e, err := open("IPPool", value, &spec)
	if err != nil {
		return IPPool{}, err
	}
	p := IPPool{
		Name: e.Metadata.Name, UID: clean(e.Metadata.UID), Annotations: cleanMap(e.Metadata.Annotations),
		CIDR: clean(spec.CIDR), BlockSize: spec.BlockSize, NATOutgoing: spec.NATOutgoing,
		IPIPMode: clean(spec.IPIPMode), NodeSelector: clean(spec.NodeSelector), Disabled: spec.Disabled,
		HasVXLANMode: spec.VXLANMode != nil,
	}
	if spec.VXLANMode != nil {
		p.VXLANMode = clean(*spec.VXLANMode)
	}
	return p, nil
}

func decodeNode(value []byte) (Node, error) {
	var spec struct {
		BGP struct {
			IPv4Address string          `json:"ipv4Address"`
			ASNumber    json.RawMessage `json:"asNumber"`
		} `json:"bgp"`
		OrchRefs []OrchRef `json:"orchRefs"`
	}
	e, err := open("Node", value, &spec)
	if err != nil {
		return Node{}, err
	}
	n := Node{Name: e.Metadata.Name, Labels: cleanMap(e.Metadata.Labels)}
	if n.Address, err = parseAddress(spec.BGP.IPv4Address); err != nil {
		return Node{}, err
	}
	if n.ASNumber, err = parseASNumber(spec.BGP.ASNumber); err != nil {
		return Node{}, err
	}
	for _, r := range spec.OrchRefs {
		n.OrchRefs = append(n.OrchRefs, OrchRef{NodeName: clean(r.NodeName), Orchestrator: clean(r.Orchestrator)})
	}
	return n, nil
}

// parseAddress reads 10.0.0.1/24, and 10.0.0.1 as older versions wrote it.
func parseAddress(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Prefix{}, fmt.Errorf("its ipv4Address %q is no IPv4 address", clean(s))
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// parseASNumber reads the three forms that Calico takes: 64512, "64512" and
// "0.64512".
func parseASNumber(raw json.RawMessage) (uint32, error) {
	text := strings.Trim(string(raw), `"`)
	if text == "" || text == "null" {
		return 0, nil
	}
	high, low, dotted := strings.Cut(text, ".")
	if !dotted {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("its asNumber %q is no AS number", clean(text))
		}
		return uint32(n), nil
	}
	h, err := strconv.ParseUint(high, 10, 16)
	l, err2 := strconv.ParseUint(low, 10, 16)
	if err := errors.Join(err, err2); err != nil {
		return 0, fmt.Errorf("its asNumber %q is no AS number", clean(text))
	}
	return uint32(h)<<16 | uint32(l), nil
}

func decodeProfile(value []byte) (Profile, error) {
	var spec struct {
		Ingress []map[string]json.RawMessage `json:"ingress"`
		Egress  []map[string]json.RawMessage `json:"egress"`
	}
	e, err := open("Profile", value, &spec)
	if err != nil {
		return Profile{}, err
	}
	return Profile{Name: e.Metadata.Name, AllowsAll: allowsAll(spec.Ingress) && allowsAll(spec.Egress)}, nil
}

// allowsAll tells whether rules, which are tried in order, let everything
// through: an Allow without a condition comes before anything that stops.
func allowsAll(rules []map[string]json.RawMessage) bool {
	for _, rule := range rules {
		switch string(rule["action"]) {
		case `"Allow"`:
			if unconditional(rule) {
				return true
			}
		case `"Log"`:
		default:
			return false
		}
	}
	return false
}

// unconditional tells whether a rule is for all traffic: besides its action it
// has only empty fields, as Calico writes "source":{}.
func unconditional(rule map[string]json.RawMessage) bool {
	for field, value := range rule {
		switch string(value) {
		case "{}", "null", `""`, "[]":
		default:
			if field != "action" && field != "metadata" {
				return false
			}
		}
	}
	return true
}

func decodeClusterInfo(value []byte) (ClusterInfo, error) {
	var spec struct {
		CalicoVersion  string `json:"calicoVersion"`
		ClusterGUID    string `json:"clusterGUID"`
		DatastoreReady bool   `json:"datastoreReady"`
	}
	if _, err := open("ClusterInformation", value, &spec); err != nil {
		return ClusterInfo{}, err
	}
	return ClusterInfo{CalicoVersion: clean(spec.CalicoVersion), GUID: clean(spec.ClusterGUID), Ready: spec.DatastoreReady}, nil
}

func cleanMap(m map[string]string) map[string]string {
	cleaned := make(map[string]string, len(m))
	for k, v := range m {
		cleaned[clean(k)] = clean(v)
	}
	return cleaned
}

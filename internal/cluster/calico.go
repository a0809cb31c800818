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

// calicoPrefix is the prefix of Calico's resources, which are JSON. The name of
// the kind follows.
const calicoPrefix = "/calico/resources/v3/projectcalico.org/"

// maxValue limits a value that is decoded, in bytes. Calico's values have a few
// KiB; etcd accepts up to 1.5 MiB.
const maxValue = 1 << 20

// IPPool is a Calico IPPool with the fields that firstboot uses.
type IPPool struct {
	Name        string
	UID         string
	Annotations map[string]string
	CIDR        string
	// BlockSize is the prefix length of a host's address block; 0 if the field
	// is missing.
	BlockSize   int
	NATOutgoing bool
	// IPIPMode and VXLANMode are empty if the field is missing.
	IPIPMode, VXLANMode string
	// HasVXLANMode reports whether spec.vxlanMode is present. Docker's plugin
	// removes it: it writes the pool with an old struct, without newer fields.
	HasVXLANMode bool
	NodeSelector string
	Disabled     bool
	Revision     int64 // etcd's revision of the last change
}

// Node is a host of the Calico network.
type Node struct {
	Name     string
	Labels   map[string]string
	Address  netip.Prefix // its IPv4 address for BGP; the zero value if it has none
	ASNumber uint32       // 0: the cluster's default
	OrchRefs []OrchRef
	Revision int64
}

// OrchRef is an orchestrator's name for a Node.
type OrchRef struct {
	NodeName     string `json:"nodeName"`
	Orchestrator string `json:"orchestrator"`
}

// Profile is a set of rules for the containers of a network.
type Profile struct {
	Name string
	// AllowsAll reports whether it allows all traffic in both directions. The
	// profile that Docker's plugin creates does not.
	AllowsAll bool
	Revision  int64
}

// ClusterInfo is Calico's ClusterInformation.
type ClusterInfo struct {
	CalicoVersion string // "v3.23.0"; empty before the first calico-node
	GUID          string
	Ready         bool
}

// NetworkIDAnnotation binds an IPPool to the Docker network over it.
const NetworkIDAnnotation = "org.projectcalico.label.network.ID"

// NetworkID returns the ID of the Docker network that the pool is bound to, or
// "".
func (p IPPool) NetworkID() string { return p.Annotations[NetworkIDAnnotation] }

// resource has the fields that all resources share.
type resource struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name        string            `json:"name"`
		UID         string            `json:"uid"`
		Annotations map[string]string `json:"annotations"`
		Labels      map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec"`
}

// decodeResource decodes a resource of one kind and its spec. Unknown fields are
// ignored, because other versions of Calico may have written them.
func decodeResource(kind string, value []byte, spec any) (resource, error) {
	var e resource
	if len(value) > maxValue {
		return e, fmt.Errorf("it has more than %d bytes", maxValue)
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return e, fmt.Errorf("it is not a JSON resource: %s", sanitize(err.Error()))
	}
	if e.Kind != kind {
		return e, fmt.Errorf("it has the kind %q", sanitize(e.Kind))
	}
	if !resourceName.MatchString(e.Metadata.Name) || len(e.Metadata.Name) > maxName {
		return e, fmt.Errorf("%q is not a resource name", sanitize(e.Metadata.Name))
	}
	if len(e.Spec) == 0 || string(e.Spec) == "null" {
		return e, nil
	}
	if err := json.Unmarshal(e.Spec, spec); err != nil {
		return e, fmt.Errorf("its spec cannot be decoded: %s", sanitize(err.Error()))
	}
	return e, nil
}

// maxName is the maximum length of a name in Calico and DNS.
const maxName = 253

// resourceName matches the names that Calico accepts. Older versions also
// accepted upper case.
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
	e, err := decodeResource("IPPool", value, &spec)
	if err != nil {
		return IPPool{}, err
	}
	p := IPPool{
		Name: e.Metadata.Name, UID: sanitize(e.Metadata.UID), Annotations: sanitizeMap(e.Metadata.Annotations),
		CIDR: sanitize(spec.CIDR), BlockSize: spec.BlockSize, NATOutgoing: spec.NATOutgoing,
		IPIPMode: sanitize(spec.IPIPMode), NodeSelector: sanitize(spec.NodeSelector), Disabled: spec.Disabled,
		HasVXLANMode: spec.VXLANMode != nil,
	}
	if spec.VXLANMode != nil {
		p.VXLANMode = sanitize(*spec.VXLANMode)
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
	e, err := decodeResource("Node", value, &spec)
	if err != nil {
		return Node{}, err
	}
	n := Node{Name: e.Metadata.Name, Labels: sanitizeMap(e.Metadata.Labels)}
	if n.Address, err = parseAddress(spec.BGP.IPv4Address); err != nil {
		return Node{}, err
	}
	if n.ASNumber, err = parseASNumber(spec.BGP.ASNumber); err != nil {
		return Node{}, err
	}
	for _, r := range spec.OrchRefs {
		n.OrchRefs = append(n.OrchRefs, OrchRef{NodeName: sanitize(r.NodeName), Orchestrator: sanitize(r.Orchestrator)})
	}
	return n, nil
}

// parseAddress parses 10.0.0.1/24, and 10.0.0.1 as older versions wrote it.
func parseAddress(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Prefix{}, fmt.Errorf("its ipv4Address %q is not an IPv4 address", sanitize(s))
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// parseASNumber parses the three forms that Calico accepts: 64512, "64512" and
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
			return 0, fmt.Errorf("its asNumber %q is not an AS number", sanitize(text))
		}
		return uint32(n), nil
	}
	h, err := strconv.ParseUint(high, 10, 16)
	l, err2 := strconv.ParseUint(low, 10, 16)
	if err := errors.Join(err, err2); err != nil {
		return 0, fmt.Errorf("its asNumber %q is not an AS number", sanitize(text))
	}
	return uint32(h)<<16 | uint32(l), nil
}

func decodeProfile(value []byte) (Profile, error) {
	var spec struct {
		Ingress []map[string]json.RawMessage `json:"ingress"`
		Egress  []map[string]json.RawMessage `json:"egress"`
	}
	e, err := decodeResource("Profile", value, &spec)
	if err != nil {
		return Profile{}, err
	}
	return Profile{Name: e.Metadata.Name, AllowsAll: allowsAll(spec.Ingress) && allowsAll(spec.Egress)}, nil
}

// allowsAll reports whether rules, which apply in order, allow all traffic: an
// unconditional Allow comes before any rule that denies.
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

// unconditional reports whether a rule applies to all traffic. All its fields
// except the action are empty, such as "source":{}.
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
	if _, err := decodeResource("ClusterInformation", value, &spec); err != nil {
		return ClusterInfo{}, err
	}
	return ClusterInfo{CalicoVersion: sanitize(spec.CalicoVersion), GUID: sanitize(spec.ClusterGUID), Ready: spec.DatastoreReady}, nil
}

func sanitizeMap(m map[string]string) map[string]string {
	cleaned := make(map[string]string, len(m))
	for k, v := range m {
		cleaned[sanitize(k)] = sanitize(v)
	}
	return cleaned
}

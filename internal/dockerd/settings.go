package dockerd

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// Settings are the keys of daemon.json that firstboot reads and does not set.
type Settings struct {
	Root           string         `json:"data-root"`
	Graph          string         `json:"graph"` // the name of data-root before Docker 23
	Bridge         string         `json:"bridge"`
	BridgeAddress  string         `json:"bip"`
	Pools          []addressPool  `json:"default-address-pools"`
	UserNamespaces string         `json:"userns-remap"`
	StoreOptions   map[string]any `json:"cluster-store-opts"`
}

type addressPool struct {
	Base string `json:"base"`
}

// ReadSettings reads daemon.json. A key that cannot be read counts as not set:
// Docker does not start with a damaged file.
func ReadSettings(h *host.Host) Settings {
	var s Settings
	if data, err := h.ReadFile(ConfigPath); err == nil {
		_ = json.Unmarshal(data, &s) // see above
	}
	return s
}

// DataRoot returns the directory in which Docker keeps its data.
func (s Settings) DataRoot() string {
	switch {
	case s.Root != "":
		return s.Root
	case s.Graph != "":
		return s.Graph
	}
	return DefaultDataRoot
}

// DefaultDataRoot is the directory of Docker's data unless it is configured.
const DefaultDataRoot = "/var/lib/docker"

// AddressPools returns the ranges from which Docker chooses the subnets of new
// networks. A value that is not a network is left out: Docker reports it.
func (s Settings) AddressPools() []netip.Prefix {
	var pools []netip.Prefix
	for _, p := range s.Pools {
		if base, err := netip.ParsePrefix(p.Base); err == nil {
			pools = append(pools, base)
		}
	}
	return pools
}

// DefaultBridge returns the network of the default bridge that Docker makes when
// it starts, and what sets it. The network is invalid if Docker makes none, or
// chooses it from the address pools.
func (s Settings) DefaultBridge() (network netip.Prefix, source string) {
	if s.Bridge != "" { // none, or a bridge that exists
		return netip.Prefix{}, ""
	}
	if address, err := netip.ParsePrefix(s.BridgeAddress); err == nil {
		return address, "bip in " + ConfigPath
	}
	if len(s.AddressPools()) > 0 {
		return netip.Prefix{}, ""
	}
	return netip.MustParsePrefix("172.17.0.0/16"), "its default"
}

// OtherStoreOption returns the first key of cluster-store-opts that belongs to
// another store than firstboot's, such as its certificates, or "".
func (s Settings) OtherStoreOption() string {
	for _, key := range slices.Sorted(maps.Keys(s.StoreOptions)) {
		if !strings.HasPrefix(key, "discovery.") { // intervals, which suit every store
			return key
		}
	}
	return ""
}

package golden

import (
	"errors"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// SealOptions are the options of a seal.
type SealOptions struct {
	// KeepCache keeps firstboot's cache of downloads. It is large, and every use
	// of it is verified by digest.
	KeepCache bool
	// Uninitialized writes "uninitialized" to /etc/machine-id instead of
	// emptying it. Only then ConditionFirstBoot= is true. systemd then applies
	// the presets, which on Debian enables every unit (measured, systemd 252).
	Uninitialized bool
}

// Identity is one machine identity item in an image.
type Identity struct {
	Name   string `json:"name"`   // of its category, such as "machine-id"
	Path   string `json:"path"`   // in the image
	Action string `json:"action"` // remove, empty, write, link; or report if a person has to act
	Why    string `json:"why"`    // the effect on clones
	apply  func() error
}

const (
	machineID     = "/etc/machine-id"
	dbusMachineID = "/var/lib/dbus/machine-id"
	swarmState    = "/var/lib/docker/swarm/docker-state.json"
	uninitialized = "uninitialized"
)

// Identities lists what a seal removes. An empty list means that no machine
// identity is left. It changes nothing.
func Identities(h *host.Host, o SealOptions) ([]Identity, error) {
	all := []Identity{}
	for _, c := range categories(h.Live()) {
		for _, l := range c.locations {
			found, err := l.find(h)
			if err != nil {
				return nil, fmt.Errorf("cannot search for %s: %w", c.name, err)
			}
			for _, path := range found {
				if !isKept(h, path, o) {
					all = append(all, Identity{c.name, path, "remove", c.why, func() error { return remove(h, path) }})
				}
			}
		}
	}
	for _, find := range []func(*host.Host, SealOptions) ([]Identity, error){
		one(machineIDIdentity), one(dbusIdentity), one(swarmIdentity),
		hostnameIdentity, hostsIdentity, machineInfoIdentity, initiatorIdentity, networkIdentities, hostKeyIdentities,
	} {
		found, err := find(h, o)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	bound, err := clientCertificate(h)
	if bound == nil || err != nil {
		return all, err
	}
	keepNames(all, bound.Path)
	return append(all, *bound), nil
}

// one returns a function that lists the item that find returns, if any.
func one(find func(*host.Host, SealOptions) (*Identity, error)) func(*host.Host, SealOptions) ([]Identity, error) {
	return func(h *host.Host, o SealOptions) ([]Identity, error) {
		i, err := find(h, o)
		if i == nil || err != nil {
			return nil, err
		}
		return []Identity{*i}, nil
	}
}

// remove removes a file or directory. internal/state decides about its own files.
func remove(h *host.Host, path string) error {
	if strings.HasPrefix(path, state.Dir+"/") {
		return state.SealFile(h, path)
	}
	return h.RemoveAll(path)
}

// machineIDIdentity returns the machine-id, or nil if systemd will generate a new
// one at boot. It does so too if the file is missing, as systemd's own image tools
// leave it.
func machineIDIdentity(h *host.Host, o SealOptions) (*Identity, error) {
	data, err := h.ReadFile(machineID)
	missing := host.NotExist(err)
	if err != nil && !missing {
		return nil, err
	}
	id := strings.TrimSpace(string(data))
	switch {
	case id == uninitialized, !o.Uninitialized && (missing || id == ""):
		return nil, nil
	case o.Uninitialized:
		return &Identity{"machine-id", machineID, "write", "systemd would not treat a clone's first boot as a first boot (ConditionFirstBoot=)",
			func() error { return h.Overwrite(machineID, []byte(uninitialized+"\n")) }}, nil
	}
	return &Identity{"machine-id", machineID, "empty", "systemd, DHCP and firstboot would treat all clones as one machine",
		func() error { return h.Overwrite(machineID, nil) }}, nil
}

// dbusIdentity returns D-Bus's copy of the machine-id, unless it is a link.
func dbusIdentity(h *host.Host, _ SealOptions) (*Identity, error) {
	if h.Readlink(dbusMachineID) != "" || !h.Exists(dbusMachineID) {
		return nil, nil
	}
	return &Identity{"dbus-machine-id", dbusMachineID, "link", "clones would keep this copy of the machine-id",
		func() error { return h.Symlink(machineID, dbusMachineID) }}, nil
}

// swarmIdentity returns a swarm membership, which deleting files does not end.
func swarmIdentity(h *host.Host, _ SealOptions) (*Identity, error) {
	if _, err := h.Stat(swarmState); err != nil {
		if host.NotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	return &Identity{"docker-swarm", swarmState, "report", "clones would be the same swarm node: run docker swarm leave --force before you capture the image", nil}, nil
}

// IsRemovable reports whether seal can remove the identity. Otherwise a person must.
func (i Identity) IsRemovable() bool { return i.apply != nil }

// Remove removes the identity from the image. It may be called again.
func (i Identity) Remove() error {
	if i.apply == nil {
		return errors.New(i.Path + ": " + i.Why)
	}
	return i.apply()
}

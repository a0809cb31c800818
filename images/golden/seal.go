package golden

import (
	"errors"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// SealOptions are choices about a seal.
type SealOptions struct {
	// KeepCache leaves firstboot's cache of downloads: verified by their sums
	// anyway, and large.
	KeepCache bool
	// Uninitialized writes "uninitialized" into /etc/machine-id instead of
	// emptying it. Only then is ConditionFirstBoot= true; and systemd applies
	// the presets, which on Debian enables every unit (measured, systemd 252).
	Uninitialized bool
}

// Identity is one thing that makes an image one of a kind.
type Identity struct {
	Name   string `json:"name"`   // of its kind: "machine-id"
	Path   string `json:"path"`   // in the image
	Action string `json:"action"` // remove, empty, write, link; or report, where a person has to act
	Why    string `json:"why"`    // what a clone would do with it
	apply  func() error
}

const (
	machineID     = "/etc/machine-id"
	dbusMachineID = "/var/lib/dbus/machine-id"
	swarmState    = "/var/lib/docker/swarm/docker-state.json"
	uninitialized = "uninitialized"
)

// Identities lists what a seal would remove; none: nothing of one machine is left.
// Nothing is changed.
func Identities(h *host.Host, o SealOptions) ([]Identity, error) {
	all := []Identity{}
	for _, k := range kinds(h.Live()) {
		for _, p := range k.places {
			found, err := p.find(h)
			if err != nil {
				return nil, fmt.Errorf("cannot look for %s: %w", k.name, err)
			}
			for _, path := range found {
				if !isKept(h, path, o) {
					all = append(all, Identity{k.name, path, "remove", k.why, func() error { return h.RemoveAll(path) }})
				}
			}
		}
	}
	for _, look := range []func(*host.Host, SealOptions) (*Identity, error){machineIDIdentity, dbusIdentity, swarmIdentity} {
		t, err := look(h, o)
		if err != nil {
			return nil, err
		}
		if t != nil {
			all = append(all, *t)
		}
	}
	return all, nil
}

// machineIDIdentity is the machine-id, unless systemd will make a new one. A
// missing file is one too: that is what systemd's own image tools leave.
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
		return &Identity{"machine-id", machineID, "write", "the first boot is to be one to systemd too (ConditionFirstBoot=)",
			func() error { return h.Overwrite(machineID, []byte(uninitialized+"\n")) }}, nil
	}
	return &Identity{"machine-id", machineID, "empty", "clones would be one machine to systemd, DHCP and firstboot",
		func() error { return h.Overwrite(machineID, nil) }}, nil
}

// dbusIdentity is D-Bus' own copy of the machine-id, where it is not a link to it.
func dbusIdentity(h *host.Host, _ SealOptions) (*Identity, error) {
	if h.Readlink(dbusMachineID) != "" || !h.Exists(dbusMachineID) {
		return nil, nil
	}
	return &Identity{"dbus-machine-id", dbusMachineID, "link", "a copy of the machine-id, which clones would keep",
		func() error { return h.Symlink(machineID, dbusMachineID) }}, nil
}

// swarmIdentity is a membership that removing files would not end.
func swarmIdentity(h *host.Host, _ SealOptions) (*Identity, error) {
	if _, err := h.Stat(swarmState); err != nil {
		if host.NotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	return &Identity{"docker-swarm", swarmState, "report", "clones would be the same swarm node; run docker swarm leave --force before the image is taken", nil}, nil
}

// Remove makes an image forget a identity. Removing it again is no error.
func (t Identity) Remove() error {
	if t.apply == nil {
		return errors.New(t.Path + ": " + t.Why)
	}
	return t.apply()
}

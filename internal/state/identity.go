package state

import (
	"github.com/projecteru2/firstboot/internal/host"
)

// Machine is the identity of a machine. It differs between clones and survives
// reboots, new network cards and a datasource's new instance-id.
type Machine struct {
	MachineID   string `json:"machine_id"`             // /etc/machine-id
	ProductUUID string `json:"product_uuid,omitempty"` // of DMI; "" on machines without one
}

// ThisMachine reads the machine's identity.
func ThisMachine(h *host.Host) Machine {
	return Machine{MachineID: boundedID(h.MachineID()), ProductUUID: boundedID(h.ProductUUID())}
}

// Known reports whether m names a machine.
func (m Machine) Known() bool { return m.MachineID != "" || m.ProductUUID != "" }

func (m Machine) check() error {
	if !m.Known() {
		return errNoMachine
	}
	return nil
}

// Same reports whether m and other are the same machine: they have an ID in
// common, and no ID differs. An ID that is empty in either of them is not
// compared.
func (m Machine) Same(other Machine) bool {
	common := m.MachineID != "" && m.MachineID == other.MachineID || m.ProductUUID != "" && m.ProductUUID == other.ProductUUID
	return common && equalIfKnown(m.MachineID, other.MachineID) && equalIfKnown(m.ProductUUID, other.ProductUUID)
}

func equalIfKnown(a, b string) bool { return a == "" || b == "" || a == b }

// String returns the machine ID, else the product UUID, else "unknown".
func (m Machine) String() string {
	switch {
	case m.MachineID != "":
		return m.MachineID
	case m.ProductUUID != "":
		return m.ProductUUID
	}
	return "unknown"
}

// Distinguish names m and other by an ID in which they differ. That is the
// product UUID if both have the same machine-id, as a new clone and its image do.
func (m Machine) Distinguish(other Machine) (this, that string) {
	if m.MachineID == other.MachineID && !equalIfKnown(m.ProductUUID, other.ProductUUID) {
		return "product UUID " + m.ProductUUID, "product UUID " + other.ProductUUID
	}
	return m.String(), other.String()
}

// BakedIdentity lists the files that carry a joined host's Calico identity into
// its clones. seal removes them, and a clone sets them aside. The unit contains
// the node's name and address. Its link comes first, so that it never dangles.
func BakedIdentity() []string {
	return []string{
		"/etc/systemd/system/docker.service.wants/calico-node.service",
		"/etc/systemd/system/calico-node.service",
		"/var/lib/calico/nodename",
	}
}

package state

import (
	"fmt"
	"path/filepath"
	"time"

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
	return Machine{MachineID: h.MachineID(), ProductUUID: h.ProductUUID()}
}

// Same reports whether m and other are the same machine. A part that is empty in
// either of them is not compared.
func (m Machine) Same(other Machine) bool {
	return equalIfKnown(m.MachineID, other.MachineID) && equalIfKnown(m.ProductUUID, other.ProductUUID)
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

// SetAside moves another machine's state to a new directory under ForeignDir and
// returns the directory. Nothing is lost, and the next run starts from the
// beginning.
func SetAside(h *host.Host, foreign Machine, now time.Time) (string, error) {
	dir := fmt.Sprintf("%s/%s-%s", ForeignDir, now.UTC().Format("20060102T150405Z"), foreign)
	if err := h.MkdirAll(dir); err != nil {
		return "", err
	}
	// The marker is moved last. Until then the next boot recognizes that the
	// other files are foreign.
	files := append(BakedIdentity(), ManifestPath, EffectivePath, RetiredPath, JournalPath, MarkerPath)
	for _, path := range files {
		if !h.Exists(path) {
			continue
		}
		if err := setAsideFile(h, path, dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func setAsideFile(h *host.Host, path, dir string) error {
	if h.Readlink(path) != "" {
		return h.Remove(path) // its target is set aside on its own
	}
	data, err := h.ReadFile(path)
	if err != nil {
		return err
	}
	if err := h.WriteFile(dir+"/"+filepath.Base(path), data, private); err != nil {
		return err
	}
	return h.Remove(path)
}

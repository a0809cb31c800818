package state

import (
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Machine is which machine this is: what stays through reboots, network cards
// and a datasource's instance-ids, and differs between clones.
type Machine struct {
	MachineID   string `json:"machine_id"`             // /etc/machine-id
	ProductUUID string `json:"product_uuid,omitempty"` // DMI; "" where there is none
}

// ThisMachine reads the machine's identity.
func ThisMachine(h *host.Host) Machine {
	return Machine{MachineID: h.MachineID(), ProductUUID: h.ProductUUID()}
}

// Same tells whether m and other are one machine. A part that either of them
// does not know is not compared.
func (m Machine) Same(other Machine) bool {
	return agree(m.MachineID, other.MachineID) && agree(m.ProductUUID, other.ProductUUID)
}

func agree(a, b string) bool { return a == "" || b == "" || a == b }

// String is the machine in one word for people and status.
func (m Machine) String() string {
	switch {
	case m.MachineID != "":
		return m.MachineID
	case m.ProductUUID != "":
		return m.ProductUUID
	}
	return "unknown"
}

// Unlike names two machines by what they differ in. A clone has the machine-id
// of its image until it gets one of its own.
func (m Machine) Distinguish(other Machine) (this, that string) {
	if m.MachineID == other.MachineID && !agree(m.ProductUUID, other.ProductUUID) {
		return "product UUID " + m.ProductUUID, "product UUID " + other.ProductUUID
	}
	return m.String(), other.String()
}

// BakedIdentity lists what of Calico's identity an image of a joined host
// carries into its clones: what a seal removes, and a clone sets aside. The
// unit has the node's name and address in it; its link comes first, so that it
// never leads nowhere.
func BakedIdentity() []string {
	return []string{
		"/etc/systemd/system/docker.service.wants/calico-node.service",
		"/etc/systemd/system/calico-node.service",
		"/var/lib/calico/nodename",
	}
}

// SetAside moves another machine's state out of the way: its files go to a
// folder of their own under ForeignDir, so that nothing is lost, and the next run
// starts from nothing. It returns that folder.
func SetAside(h *host.Host, foreign Machine, now time.Time) (string, error) {
	dir := fmt.Sprintf("%s/%s-%s", ForeignDir, now.UTC().Format("20060102T150405Z"), foreign)
	if err := h.MkdirAll(dir); err != nil {
		return "", err
	}
	// The marker goes last: as long as it is there the next boot still sees
	// that the rest is foreign.
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
		return h.Remove(path) // where it leads is set aside itself
	}
	data, err := h.ReadFile(path)
	if err != nil {
		return err
	}
	name := path[lastSlash(path)+1:]
	if err := h.WriteFile(dir+"/"+name, data, private); err != nil {
		return err
	}
	return h.Remove(path)
}

func lastSlash(path string) int {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return i
		}
	}
	return -1
}

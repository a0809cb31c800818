package golden

import (
	_ "embed"
	"slices"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

//go:embed files/firstboot-ssh-keys.service
var hostKeysUnit []byte

const hostKeysPath = units.AdminDir + "/firstboot-ssh-keys.service"

// keyMakers are units that make SSH host keys at boot where there are none:
// Fedora and RHEL, Debian from 13 on, Raspberry Pi OS, and our own.
func keyMakers() []string {
	return []string{
		units.Dir + "/sshd-keygen.target", units.Dir + "/sshd-keygen@.service", units.Dir + "/sshd-keygen.service",
		units.Dir + "/ssh-keygen.service", units.Dir + "/regenerate_ssh_host_keys.service",
	}
}

// HostKeyChanges is what an image without SSH host keys needs so that its clones can
// be reached: on Debian only the package's installation makes keys, and sshd
// does not start without. Empty where something in the image makes them, or
// where there is no sshd.
func HostKeyChanges(h *host.Host) ([]Change, error) {
	if !h.Exists("/usr/sbin/sshd") || !h.Exists("/usr/bin/ssh-keygen") || slices.ContainsFunc(keyMakers(), h.Exists) {
		return nil, nil
	}
	var all []Change
	c, differs, err := File{Path: hostKeysPath, Data: hostKeysUnit, Mode: 0o644}.change(h)
	if err != nil {
		return nil, err
	}
	if differs {
		all = append(all, c)
	}
	for _, unit := range []string{"ssh.service", "sshd.service"} {
		if !h.Exists(units.Dir+"/"+unit) && !h.Exists("/lib/systemd/system/"+unit) {
			continue
		}
		if c, differs := link(h, hostKeysPath, units.AdminDir+"/"+unit+".wants/firstboot-ssh-keys.service"); differs {
			all = append(all, c)
		}
	}
	return all, nil
}

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

// keyGenerators lists units that generate missing SSH host keys at boot: those of
// Fedora and RHEL, Debian since 13, and Raspberry Pi OS.
func keyGenerators() []string {
	return []string{
		units.Dir + "/sshd-keygen.target", units.Dir + "/sshd-keygen@.service", units.Dir + "/sshd-keygen.service",
		units.Dir + "/ssh-keygen.service", units.Dir + "/regenerate_ssh_host_keys.service",
	}
}

// HostKeyChanges returns the changes that make clones of an image generate SSH host
// keys at boot. On Debian 12 only the installation of the package generates keys,
// and sshd does not start without them. There are no changes if the image has no
// sshd, or has a unit that generates keys.
func HostKeyChanges(h *host.Host) ([]Change, error) {
	if !h.Exists("/usr/sbin/sshd") || !h.Exists("/usr/bin/ssh-keygen") || slices.ContainsFunc(keyGenerators(), h.Exists) {
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

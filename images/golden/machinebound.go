package golden

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// This file finds machine identity inside files that an image may also have without
// it: names, and addresses of network interfaces.

const (
	hostnamePath  = "/etc/hostname"
	initiatorPath = "/etc/iscsi/initiatorname.iscsi"
	sshdConfig    = "/etc/ssh/sshd_config"
)

// hostnameIdentity returns the host name, unless it is one that no host keeps.
func hostnameIdentity(h *host.Host, _ SealOptions) ([]Identity, error) {
	text, err := readText(h, hostnamePath)
	name := strings.TrimSpace(withoutComments(text))
	generic := []string{"", "localhost", "localhost.localdomain", "localhost.localdomain6"}
	if err != nil || slices.Contains(generic, name) {
		return nil, err
	}
	return []Identity{{"host-name", hostnamePath, "remove", "clones would join under the name " + name + " unless something else names them",
		func() error { return h.RemoveAll(hostnamePath) }}}, nil
}

// initiatorIdentity returns the iSCSI name. Debian's open-iscsi generates a name for a
// file with GenerateName=yes, other distributions for a missing file.
func initiatorIdentity(h *host.Host, _ SealOptions) ([]Identity, error) {
	text, err := readText(h, initiatorPath)
	if err != nil || !strings.Contains(withoutComments(text), "InitiatorName=") {
		return nil, err
	}
	const why = "clones would share one iSCSI initiator name, and damage each other's volumes"
	if h.Exists("/lib/open-iscsi/startup-checks.sh") {
		return []Identity{{"iscsi-name", initiatorPath, "write", why,
			func() error { return h.WriteFile(initiatorPath, []byte("GenerateName=yes\n"), 0o600) }}}, nil
	}
	return []Identity{{"iscsi-name", initiatorPath, "remove", why, func() error { return h.RemoveAll(initiatorPath) }}}, nil
}

// macAddress matches a MAC address with colons or dashes.
var macAddress = regexp.MustCompile(`(?i)\b[0-9a-f]{2}([:-])[0-9a-f]{2}(?:[:-][0-9a-f]{2}){4}\b`)

// networkFiles lists the files that may bind the network configuration to the MAC
// addresses of one machine.
func networkFiles() []location {
	return []location{
		{"/etc/netplan", []string{"*.yaml", "*.yml"}},
		{"/etc/NetworkManager/system-connections", []string{"*"}},
		{"/etc/systemd/network", []string{"*.network", "*.link"}},
		{"/etc/sysconfig/network-scripts", []string{"ifcfg-*"}},
		{"/etc/sysconfig/network", []string{"ifcfg-*"}},
		{"/etc/network", []string{"interfaces"}},
		{"/etc/network/interfaces.d", []string{"*"}},
		{"/etc/udev/rules.d", []string{"*.rules"}},
	}
}

// networkIdentities returns the files that contain a MAC address. cloud-init writes its
// files again for a new instance, so they are removed. Without the others a host may
// have no network, so a person must decide.
func networkIdentities(h *host.Host, _ SealOptions) ([]Identity, error) {
	var all []Identity
	rewritten := cloudInitWritesNetwork(h)
	for _, l := range networkFiles() {
		found, err := l.find(h)
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			if info, err := h.Stat(file); err != nil || !info.Mode().IsRegular() {
				continue // a dangling link, or a directory
			}
			text, err := readText(h, file)
			if err != nil {
				return nil, err
			}
			address := macAddress.FindString(withoutComments(text))
			if address == "" {
				continue
			}
			base := path.Base(file)
			i := Identity{"mac-address", file, "report", "clones do not have the interface " + address + ": match by name or driver instead, or remove the file", nil}
			if rewritten && strings.Contains(base, "cloud-init") || strings.Contains(base, "persistent-net") {
				i.Action, i.Why = "remove", "clones do not have the interface "+address
				i.apply = func() error { return h.RemoveAll(file) }
			}
			all = append(all, i)
		}
	}
	return all, nil
}

// cloudInitWritesNetwork reports whether cloud-init is installed and configures the
// network.
func cloudInitWritesNetwork(h *host.Host) bool {
	if !h.Exists("/usr/bin/cloud-init") {
		return false
	}
	files := []string{"/etc/cloud/cloud.cfg"}
	if names, err := h.ReadDir("/etc/cloud/cloud.cfg.d"); err == nil {
		for _, name := range names {
			files = append(files, "/etc/cloud/cloud.cfg.d/"+name)
		}
	}
	return !slices.ContainsFunc(files, func(file string) bool {
		text, err := readText(h, file)
		return err != nil || networkDisabled.MatchString(withoutComments(text))
	})
}

// networkDisabled matches the setting network: {config: disabled} of cloud-init.
var networkDisabled = regexp.MustCompile(`(?m)^network:\s*\{?\s*"?config"?:\s*"?disabled`)

// hostKeyIdentities returns SSH host keys outside their usual paths. At boot only keys
// at the usual paths are generated, so removing these would lock everybody out.
func hostKeyIdentities(h *host.Host, _ SealOptions) ([]Identity, error) {
	files := []string{sshdConfig}
	names, err := h.ReadDir(sshdConfig + ".d")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".conf") {
			files = append(files, sshdConfig+".d/"+name)
		}
	}
	var all []Identity
	for _, file := range files {
		text, err := readText(h, file)
		if err != nil {
			return nil, err
		}
		for _, m := range hostKey.FindAllStringSubmatch(text, -1) {
			key := strings.Trim(strings.TrimSpace(m[1]), `"`)
			if !path.IsAbs(key) || usualHostKey(key) || !h.Exists(key) {
				continue
			}
			all = append(all, Identity{"ssh-host-keys", key, "report",
				"clones could impersonate each other, and nothing generates this key at boot: use the default paths, or remove it and generate it at boot", nil})
		}
	}
	return all, nil
}

// hostKey matches a HostKey in sshd_config(5).
var hostKey = regexp.MustCompile(`(?im)^[ \t]*HostKey(?:[ \t]*=[ \t]*|[ \t]+)(\S.*)$`)

// usualHostKey reports whether seal removes the key by its name, and ssh-keygen -A
// generates it.
func usualHostKey(key string) bool {
	ok, err := path.Match("/etc/ssh/ssh_host_*_key", path.Clean(key))
	return ok && err == nil
}

// readText reads a file; "" if it does not exist.
func readText(h *host.Host, file string) (string, error) {
	data, err := h.ReadFile(file)
	if host.NotExist(err) {
		return "", nil
	}
	return string(data), err
}

// withoutComments removes the lines that begin with # or ;.
func withoutComments(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if trimmed := strings.TrimSpace(line); !strings.HasPrefix(trimmed, "#") && !strings.HasPrefix(trimmed, ";") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

package golden

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// This file finds what binds the network configuration to one machine: MAC addresses
// of its interfaces, and private keys.

// macAddress matches a MAC address with colons or dashes.
var macAddress = regexp.MustCompile(`(?i)\b[0-9a-f]{2}([:-])[0-9a-f]{2}(?:[:-][0-9a-f]{2}){4}\b`)

// privateKey matches a private key of WireGuard in the files of wg-quick, networkd,
// NetworkManager and netplan.
var privateKey = regexp.MustCompile(`(?im)(?:^|[\s{,])["']?(?:PrivateKey|private-key|private|key)["']?[ \t]*[=:][ \t]*["']?[a-z0-9+/]{43}=`)

// keyFile matches the path of a private key in a file of networkd or wg-quick(8).
var keyFile = regexp.MustCompile(`(?im)^[ \t]*(?:PrivateKeyFile[ \t]*=|PostUp[ \t]*=.*\bprivate-key)[ \t]*(/\S+)`)

// networkFiles lists the files that may bind the network configuration to one machine.
func networkFiles() []location {
	all := []location{
		{"/etc/netplan", []string{"*.yaml", "*.yml"}},
		{"/usr/lib/netplan", []string{"*.yaml", "*.yml"}},
		{"/etc/NetworkManager", []string{"NetworkManager.conf"}},
		{"/etc/sysconfig/network-scripts", []string{"ifcfg-*"}},
		{"/etc/sysconfig/network", []string{"ifcfg-*"}},
		{"/etc/network", []string{"interfaces"}},
		{"/etc/network/interfaces.d", []string{"*"}},
		{"/etc/wireguard", []string{"*"}},
	}
	for _, dir := range []string{"/etc/NetworkManager", "/usr/lib/NetworkManager"} {
		all = append(all, location{dir + "/system-connections", []string{"*"}}, location{dir + "/conf.d", []string{"*.conf"}})
	}
	for _, dir := range []string{"/etc", "/usr/lib", "/usr/local/lib"} {
		all = append(all, location{dir + "/systemd/network", []string{"*.network", "*.link", "*.netdev"}}, location{dir + "/udev/rules.d", []string{"*.rules"}})
	}
	return all
}

// findNetworkFiles returns the paths of the network files of an image.
func findNetworkFiles(h *host.Host) ([]string, error) {
	var all []string
	for _, l := range networkFiles() {
		found, err := l.find(h)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
		if path.Base(l.dir) != "network" || path.Base(path.Dir(l.dir)) != "systemd" {
			continue
		}
		dropIns, err := location{l.dir, []string{"*.network.d", "*.link.d", "*.netdev.d"}}.find(h)
		if err != nil {
			return nil, err
		}
		for _, dir := range dropIns {
			found, err := location{dir, []string{"*.conf"}}.find(h)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return slices.DeleteFunc(all, func(file string) bool {
		info, err := h.Stat(file)
		return err != nil || !info.Mode().IsRegular() // a dangling link, or a directory
	}), nil
}

// networkIdentities returns the files that contain a MAC address or a private key.
// cloud-init writes its files again for a new instance, so they are removed. Without
// the others a host may have no network, so a person must decide.
func networkIdentities(h *host.Host, _ SealOptions) ([]Identity, error) {
	files, err := findNetworkFiles(h)
	if err != nil {
		return nil, err
	}
	var all []Identity
	rewritten := cloudInitWritesNetwork(h)
	for _, file := range files {
		text, err := readText(h, file)
		if err != nil {
			return nil, err
		}
		text = withoutComments(text)
		all = append(all, wireGuardIdentities(h, file, text)...)
		address := macAddress.FindString(text)
		if address == "" {
			continue
		}
		base := path.Base(file)
		i := Identity{"mac-address", file, "report", "clones do not have the interface " + address + ": match by name or driver instead, or remove the file", nil}
		if path.Ext(base) == ".netdev" {
			i.Why = "clones would share the address " + address + ": omit it, or remove the file"
		}
		if rewritten && strings.Contains(base, "cloud-init") || strings.Contains(base, "persistent-net") {
			i.Action, i.Why = "remove", "clones do not have the interface "+address
			i.apply = func() error { return h.RemoveAll(file) }
		}
		all = append(all, i)
	}
	return all, nil
}

// wireGuardIdentities returns a network file that has a private key of WireGuard, and
// the files of private keys that it names. Nothing generates the keys again, and the
// peers know them.
func wireGuardIdentities(h *host.Host, file, text string) []Identity {
	const why = "clones would share one WireGuard identity: remove the key, and create one for each host"
	var all []Identity
	key := path.Dir(file) == "/etc/wireguard" && wireGuardKey.MatchString(strings.TrimSpace(text)) && !strings.Contains(path.Base(file), "pub")
	if key || privateKey.MatchString(text) {
		all = append(all, Identity{"wireguard-key", file, "report", why, nil})
	}
	for _, m := range keyFile.FindAllStringSubmatch(text, -1) {
		// Files in /etc/wireguard are found by their content.
		if path.Dir(m[1]) != "/etc/wireguard" && h.Exists(m[1]) {
			all = append(all, Identity{"wireguard-key", m[1], "report", why, nil})
		}
	}
	return all
}

// wireGuardKey matches the content of a file with a key alone.
var wireGuardKey = regexp.MustCompile(`^[A-Za-z0-9+/]{43}=$`)

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

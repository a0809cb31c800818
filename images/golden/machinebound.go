package golden

import (
	"path"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// This file finds machine identity inside files that an image may also have without
// it.

const (
	initiatorPath = "/etc/iscsi/initiatorname.iscsi"
	sshdConfig    = "/etc/ssh/sshd_config"
)

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
			key := m[1] + m[2]
			if !path.IsAbs(key) || usualHostKey(key) || !h.Exists(key) {
				continue
			}
			all = append(all, Identity{"ssh-host-keys", key, "report",
				"clones could impersonate each other, and nothing generates this key at boot: use the default paths, or remove it and generate it at boot", nil})
		}
	}
	return all, nil
}

// hostKey matches a HostKey in sshd_config(5), quoted or not. A comment may follow.
var hostKey = regexp.MustCompile(`(?im)^[ \t]*HostKey(?:[ \t]*=[ \t]*|[ \t]+)(?:"([^"\r\n]*)"|([^\s"#]+))`)

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

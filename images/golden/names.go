package golden

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/projecteru2/firstboot/internal/host"
)

// This file finds the names of one machine.

const (
	hostnamePath    = "/etc/hostname"
	hostsPath       = "/etc/hosts"
	machineInfoPath = "/etc/machine-info"
)

// hostnameIdentity returns the host name, unless it is one that no host keeps.
func hostnameIdentity(h *host.Host, _ SealOptions) ([]Identity, error) {
	name, err := hostnameOf(h)
	if err != nil || name == "" {
		return nil, err
	}
	return []Identity{{"host-name", hostnamePath, "remove", "clones would join under the name " + name + " unless something else names them",
		func() error { return h.RemoveAll(hostnamePath) }}}, nil
}

// hostnameOf returns the host name in /etc/hostname; "" if it is one that no host keeps.
func hostnameOf(h *host.Host) (string, error) {
	text, err := readText(h, hostnamePath)
	name := strings.TrimSpace(withoutComments(text))
	if err != nil || slices.Contains([]string{"localhost", "localhost.localdomain", "localhost.localdomain6"}, name) {
		return "", err
	}
	return name, nil
}

// hostsIdentity returns /etc/hosts, if it has the name of the machine. Debian's
// installer writes that name with the address 127.0.1.1.
func hostsIdentity(h *host.Host, _ SealOptions) ([]Identity, error) {
	text, err := readText(h, hostsPath)
	if err != nil {
		return nil, err
	}
	name, err := hostnameOf(h)
	if err != nil {
		return nil, err
	}
	kept := withoutHostname(text, name)
	if kept == text {
		return nil, nil
	}
	return []Identity{{"host-name", hostsPath, "write", "clones would resolve the name of this machine to themselves",
		func() error { return rewrite(h, hostsPath, kept) }}}, nil
}

// withoutHostname removes the name of a machine from the text of /etc/hosts, with its
// domain, and the lines that have no name then.
func withoutHostname(text, name string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		entry, comment, commented := strings.Cut(line, "#")
		fields := strings.Fields(entry)
		if len(fields) < 2 {
			kept.WriteString(line)
			continue
		}
		own := fields[0] == "127.0.1.1"
		names := slices.DeleteFunc(slices.Clone(fields[1:]), func(n string) bool {
			n = strings.ToLower(strings.TrimSuffix(n, "."))
			switch {
			case strings.HasPrefix(n, "localhost") || strings.HasPrefix(n, "ip6-"):
				return false
			case own:
				return true
			}
			return name != "" && (n == strings.ToLower(name) || strings.HasPrefix(n, strings.ToLower(name)+"."))
		})
		switch {
		case len(names) == len(fields)-1:
			kept.WriteString(line)
		case len(names) > 0:
			kept.WriteString(fields[0] + "\t" + strings.Join(names, " "))
			if commented {
				kept.WriteString(" #" + strings.TrimRight(comment, "\n"))
			}
			kept.WriteString("\n")
		}
	}
	return kept.String()
}

// prettyHostname matches the name for people in machine-info(5).
var prettyHostname = regexp.MustCompile(`(?m)^[ \t]*PRETTY_HOSTNAME=.*(?:\n|$)`)

// machineInfoIdentity returns /etc/machine-info, if it has the name of the machine.
func machineInfoIdentity(h *host.Host, _ SealOptions) ([]Identity, error) {
	text, err := readText(h, machineInfoPath)
	kept := prettyHostname.ReplaceAllString(text, "")
	if err != nil || kept == text {
		return nil, err
	}
	const why = "clones would show the name of this machine"
	if strings.TrimSpace(kept) == "" {
		return []Identity{{"host-name", machineInfoPath, "remove", why, func() error { return h.RemoveAll(machineInfoPath) }}}, nil
	}
	return []Identity{{"host-name", machineInfoPath, "write", why, func() error { return rewrite(h, machineInfoPath, kept) }}}, nil
}

// rewrite replaces a file and keeps its mode. Image builders may mount another file
// over it, which can only be written in place.
func rewrite(h *host.Host, path, text string) error {
	info, err := h.Stat(path)
	if err != nil {
		return err
	}
	err = h.WriteFile(path, []byte(text), info.Mode().Perm())
	if errors.Is(err, syscall.EBUSY) {
		return h.Overwrite(path, []byte(text))
	}
	return err
}

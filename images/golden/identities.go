package golden

import (
	"path"
	"slices"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// category is a category of machine identity in an image: where it is, and why
// clones must not inherit it.
type category struct {
	name, why string
	locations []location
}

// location is a directory, and patterns (path.Match) of names in it.
type location struct {
	dir      string
	patterns []string
}

// categories returns everything that seal removes by deleting files. Identities
// that need another action are in seal.go. Nothing else is touched.
func categories(live bool) []category {
	list := []category{
		{"firstboot-state", "clones would take this machine's state for their own", []location{
			{state.Dir, []string{"*"}}, // except what isKept names
			{path.Dir(report.IssueLink), []string{path.Base(report.IssueLink)}},
		}},
		{"calico-identity", "clones would join with this node's name and address and replace it", exactPaths(state.BakedIdentity())},
		{"ssh-host-keys", "clones could impersonate each other", []location{
			{"/etc/ssh", []string{"ssh_host_*_key", "ssh_host_*_key.pub", "ssh_host_*_key-cert.pub"}},
			{"/etc/dropbear", []string{"dropbear_*_host_key"}},
		}},
		{"cloud-init", "cloud-init would not treat a clone's first boot as a first boot", []location{
			{"/var/lib/cloud", []string{"instance", "instances", "data", "sem"}},
		}},
		{"dhcp-leases", "clones would request the same address with the same client ID", []location{
			{"/var/lib/dhcp", []string{"dhclient*.lease", "dhclient*.leases"}},
			{"/var/lib/dhclient", []string{"dhclient*.lease", "dhclient*.leases"}},
			{"/var/lib/dhcpcd", []string{"*.lease", "*.lease6", "duid", "secret"}},
			{"/var/lib/NetworkManager", []string{"*.lease", "secret_key"}},
			{"/var/lib/systemd/network", []string{"*"}},
		}},
		// See systemd's list for image builders, systemd.io/BUILDING_IMAGES.
		{"random-seed", "clones would start with the same random seed", []location{
			{"/var/lib/systemd", []string{"random-seed"}},
			{"/var/lib/urandom", []string{"random-seed"}},
			{"/boot/loader", []string{"random-seed"}},
			{"/efi/loader", []string{"random-seed"}},
			{"/boot/efi/loader", []string{"random-seed"}},
		}},
		{"credential-secret", "each clone could decrypt the others' credentials", []location{exactPath("/var/lib/systemd/credential.secret")}},
		{"docker-key", "clones would share one Docker engine ID", []location{
			exactPath("/etc/docker/key.json"),
			exactPath("/var/lib/docker/engine-id"), // Docker 23 and later
		}},
	}
	if !live {
		// On a running machine this is in memory; in an image it is a copy.
		list = append(list, category{"dhcp-leases", "clones would request the same address", []location{{"/run/systemd/netif/leases", []string{"*"}}}})
	}
	return list
}

func exactPath(p string) location { return location{path.Dir(p), []string{path.Base(p)}} }

func exactPaths(paths []string) []location {
	locations := make([]location, len(paths))
	for i, p := range paths {
		locations[i] = exactPath(p)
	}
	return locations
}

// isKept reports whether a path stays in the image although a pattern matches it.
func isKept(h *host.Host, p string, o SealOptions) bool {
	switch p {
	case state.Dir + "/bundle":
		return true
	case state.Dir + "/cache":
		return o.KeepCache
	case report.IssueLink:
		return h.Readlink(p) != "" // bake makes the link; a regular file is the message of a failed run
	}
	return isEmptyDir(h, p)
}

// isEmptyDir reports whether a path is an empty directory. Packages ship such
// directories; they identify no machine.
func isEmptyDir(h *host.Host, p string) bool {
	if h.Readlink(p) != "" {
		return false
	}
	info, err := h.Stat(p)
	if err != nil || !info.IsDir() {
		return false
	}
	names, err := h.ReadDir(p)
	return err == nil && len(names) == 0
}

// find lists the existing paths of a location, sorted.
func (l location) find(h *host.Host) ([]string, error) {
	if info, err := h.Stat(l.dir); err != nil || !info.IsDir() {
		if err == nil || host.NotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	names, err := h.ReadDir(l.dir)
	var found []string
	for _, name := range names {
		matches := func(pattern string) bool {
			ok, err := path.Match(pattern, name)
			return ok && err == nil
		}
		if slices.ContainsFunc(l.patterns, matches) {
			found = append(found, l.dir+"/"+name)
		}
	}
	return found, err
}

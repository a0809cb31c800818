package golden

import (
	"path"
	"slices"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// kind is a sort of identity that one machine leaves in an image: where, and why
// no clone may inherit it.
type kind struct {
	name, why string
	places    []place
}

// place is a folder, and patterns (path.Match) of names in it.
type place struct {
	dir   string
	names []string
}

// kinds is the whole list of what is removed as it is found: nothing that is
// not here is ever touched. What needs more than that is in seal.go.
func kinds(live bool) []kind {
	list := []kind{
		{"firstboot-state", "what one machine's run left: its clones would believe that it was theirs", []place{
			{state.Dir, []string{"*"}}, // less what isKept names
			{path.Dir(report.IssueLink), []string{path.Base(report.IssueLink)}},
		}},
		{"calico-identity", "clones would join under this node's name and address, and take its place", exactlyAll(state.BakedIdentity())},
		{"ssh-host-keys", "clones could pass for each other", []place{
			{"/etc/ssh", []string{"ssh_host_*_key", "ssh_host_*_key.pub", "ssh_host_*_key-cert.pub"}},
			{"/etc/dropbear", []string{"dropbear_*_host_key"}},
		}},
		{"cloud-init", "cloud-init would take the first boot of a clone for a later one", []place{
			{"/var/lib/cloud", []string{"instance", "instances", "data", "sem"}},
		}},
		{"dhcp-leases", "clones would ask for the same address, by the same client identity", []place{
			{"/var/lib/dhcp", []string{"dhclient*.lease", "dhclient*.leases"}},
			{"/var/lib/dhclient", []string{"dhclient*.lease", "dhclient*.leases"}},
			{"/var/lib/dhcpcd", []string{"*.lease", "*.lease6", "duid", "secret"}},
			{"/var/lib/NetworkManager", []string{"*.lease", "secret_key"}},
			{"/var/lib/systemd/network", []string{"*"}},
		}},
		// By systemd's own list for the makers of images, systemd.io/BUILDING_IMAGES.
		{"random-seed", "clones would begin with the same random numbers", []place{
			{"/var/lib/systemd", []string{"random-seed"}},
			{"/var/lib/urandom", []string{"random-seed"}},
			{"/boot/loader", []string{"random-seed"}},
			{"/efi/loader", []string{"random-seed"}},
			{"/boot/efi/loader", []string{"random-seed"}},
		}},
		{"credential-secret", "each clone could decrypt the other ones' credentials", []place{exactly("/var/lib/systemd/credential.secret")}},
		{"docker-key", "Docker's identity, by which clones would be one engine", []place{
			exactly("/etc/docker/key.json"),
			exactly("/var/lib/docker/engine-id"), // Docker 23 and later
		}},
	}
	if !live {
		// In memory on a running machine; here a copy of it.
		list = append(list, kind{"dhcp-leases", "clones would ask for the same address", []place{{"/run/systemd/netif/leases", []string{"*"}}}})
	}
	return list
}

func exactly(p string) place { return place{path.Dir(p), []string{path.Base(p)}} }

func exactlyAll(paths []string) []place {
	places := make([]place, len(paths))
	for i, p := range paths {
		places[i] = exactly(p)
	}
	return places
}

// isKept tells what may stay although a pattern fits.
func isKept(h *host.Host, p string, o SealOptions) bool {
	switch p {
	case state.Dir + "/bundle":
		return true
	case state.Dir + "/cache":
		return o.KeepCache
	case report.IssueLink:
		return h.Readlink(p) != "" // as an image should have it; a file is a failure's message
	}
	return emptyFolder(h, p)
}

// emptyFolder tells what a package may own and no machine has filled.
func emptyFolder(h *host.Host, p string) bool {
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

// find lists the paths of a place that exist, sorted.
func (p place) find(h *host.Host) ([]string, error) {
	if info, err := h.Stat(p.dir); err != nil || !info.IsDir() {
		if err == nil || host.NotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	names, err := h.ReadDir(p.dir)
	var found []string
	for _, name := range names {
		fits := func(pattern string) bool {
			ok, err := path.Match(pattern, name)
			return ok && err == nil
		}
		if slices.ContainsFunc(p.names, fits) {
			found = append(found, p.dir+"/"+name)
		}
	}
	return found, err
}

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
			{"/var/lib/dhcpv6", []string{"*duid*"}},
			{"/etc", []string{"dhcpcd.duid", "dhcpcd.secret"}},
		}},
		// See systemd's list for image builders, systemd.io/BUILDING_IMAGES.
		{"random-seed", "clones would start with the same random seed", []location{
			{"/var/lib/systemd", []string{"random-seed"}},
			{"/var/lib/urandom", []string{"random-seed"}},
			{"/var/lib/misc", []string{"random-seed"}},
			{"/var/lib", []string{"random-seed"}},
			{"/var/lib/seedrng", []string{"seed.*"}},
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
	list = append(list, agents()...)
	if !live {
		// On a running machine this is in memory; in an image it is a copy.
		list = append(list, category{"dhcp-leases", "clones would request the same address", []location{{"/run/systemd/netif/leases", []string{"*"}}}})
	}
	return list
}

// agents returns the identities by which storage and management services know a
// machine. Each service creates a new one, or asks for a new registration. Most are on
// the list of virt-sysprep(1).
func agents() []category {
	return []category{
		{"nvme-host", "clones would share one NVMe host identity", []location{{"/etc/nvme", []string{"hostnqn", "hostid"}}}},
		{"lvm-devices", "the file lists the disks of one machine; clones would not find theirs", []location{exactPath("/etc/lvm/devices/system.devices")}},
		{"kerberos-keytab", "clones would share one Kerberos host identity", []location{exactPath("/etc/krb5.keytab")}},
		{"samba-account", "clones would share one machine account in the domain", []location{{"/var/lib/samba/private", []string{"secrets.tdb", "secrets.ldb"}}}},
		{"salt-minion", "clones would share one Salt minion identity", []location{
			exactPath("/etc/salt/minion_id"),
			{"/etc/salt/pki/minion", []string{"minion.pem", "minion.pub"}},
		}},
		{"puppet-agent", "clones would share one Puppet node identity", slices.Concat(puppet("/etc/puppetlabs/puppet/ssl"), puppet("/var/lib/puppet/ssl"))},
		{"chef-client", "clones would share one Chef node identity", []location{exactPath("/etc/chef/client.pem")}},
		{"subscription", "clones would share one registration", []location{
			{"/etc/pki/consumer", []string{"cert.pem", "key.pem"}},
			{"/etc/pki/entitlement", []string{"*.pem"}},
			exactPath("/etc/sysconfig/rhn/systemid"),
			{"/etc/insights-client", []string{"machine-id", ".registered"}},
			{"/var/lib/ubuntu-advantage/private", []string{"machine-token.json"}},
		}},
		{"vpn-identity", "clones would share one identity in the network", []location{
			exactPath("/var/lib/tailscale/tailscaled.state"),
			{"/var/lib/zerotier-one", []string{"identity.secret", "identity.public"}},
		}},
		{"cloud-agent", "clones would share one instance identity in the management service", []location{exactPath("/var/lib/amazon/ssm/registration")}},
	}
}

// puppet returns the agent's own keys and certificates; those of the CA stay.
func puppet(dir string) []location {
	return []location{
		{dir + "/private_keys", []string{"*.pem"}}, {dir + "/public_keys", []string{"*.pem"}},
		{dir + "/certificate_requests", []string{"*.pem"}}, {dir + "/certs", []string{"[^c]*.pem", "c[^a]*.pem", "ca?*.pem"}},
	}
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

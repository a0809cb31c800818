package golden

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/host"
)

// tree returns everything below a directory, with the content of files.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		switch {
		case d.IsDir():
			all[name] = "directory"
		case d.Type()&fs.ModeSymlink != 0:
			all[name], err = os.Readlink(path)
		default:
			data, readErr := os.ReadFile(path)
			all[name], err = string(data), readErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// image returns a root directory with these files. A text that begins with -> is the
// target of a link.
func image(t *testing.T, files map[string]string) *host.Host {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		if target, isLink := strings.CutPrefix(text, "->"); isLink {
			if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, root+path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(t, root+path, text, 0o644)
	}
	return host.New(root, host.Offline())
}

// identities returns what seal finds, as NAME ACTION PATH.
func identities(t *testing.T, h *host.Host, o SealOptions) []string {
	t.Helper()
	found, err := Identities(h, o)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range found {
		if f.Why == "" {
			t.Errorf("%s: no reason", f.Path)
		}
		lines = append(lines, f.Name+" "+f.Action+" "+f.Path)
	}
	slices.Sort(lines)
	return lines
}

// seal removes all identities from an image.
func seal(t *testing.T, h *host.Host, o SealOptions) {
	t.Helper()
	found, err := Identities(h, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
	}
}

// usedImage returns the files of an image that a machine has booted from: each
// identity, and similar files that must stay.
func usedImage() (files map[string]string, removed []string) {
	files = map[string]string{
		"/etc/machine-id": "6c0e5c3fd0f14d2b8f6f2b6b9d2a1c33\n", "/var/lib/dbus/machine-id": "6c0e5c3fd0f14d2b8f6f2b6b9d2a1c33\n",
		// These files stay.
		"/var/lib/firstboot/bundle/manifest.json": "{}", "/var/lib/firstboot/bundle/sha256/abc": "x",
		"/etc/firstboot/config.yaml": "etcd: {}", "/usr/bin/firstboot": "program",
		"/etc/systemd/system/multi-user.target.wants/firstboot.service": "->/usr/lib/systemd/system/firstboot.service",
		"/etc/issue.d/firstboot.issue":                                  "->/run/issue.d/firstboot.issue",
		"/etc/issue.d/other.issue":                                      "hello",
		"/etc/systemd/system/docker.service.wants/other.service":        "->/x",
		"/etc/ssh/sshd_config":                                          "Port 22", "/etc/ssh/ssh_known_hosts": "x", "/root/.ssh/authorized_keys": "ssh-ed25519 x",
		"/var/lib/cloud/seed/nocloud/user-data": "#cloud-config", "/var/lib/cloud/scripts/vendor/x": "x", "/etc/cloud/cloud.cfg": "x",
		"/var/lib/dhcp/dhcpd.leases": "of a server", "/var/lib/NetworkManager/NetworkManager.state": "x",
		"/etc/NetworkManager/system-connections/eth0.nmconnection": "x",
		"/var/lib/systemd/timers/stamp-fstrim.timer":               "", "/boot/loader/loader.conf": "timeout 3",
		"/etc/docker/daemon.json": "{}", "/var/lib/docker/overlay2/l/x": "layer", "/var/lib/calico/other": "x",
		"/etc/eru/minions.conf":                   "ETCD_ENDPOINTS=http://10.0.0.1:2379",
		"/etc/puppetlabs/puppet/ssl/certs/ca.pem": "x", "/etc/salt/pki/minion/minion_master.pub": "x", "/etc/netplan/50-dhcp.yaml": "network: {version: 2}", "/etc/hosts": "127.0.0.1 localhost\n", "/etc/machine-info": "CHASSIS=server\n",
		"/etc/iscsi/initiatorname.iscsi": "# InitiatorName=x\nGenerateName=yes\n", "/etc/systemd/network/80-dhcp.network": "[Match]\nName=e*\n# 52:54:00:00:00:01\n",
	}
	removed = []string{
		"/var/lib/firstboot/complete.json", "/var/lib/firstboot/complete.former.json", "/var/lib/firstboot/journal.json",
		"/var/lib/firstboot/manifest.json", "/var/lib/firstboot/effective.yaml", "/var/lib/firstboot/foreign/2026/complete.json",
		"/var/lib/firstboot/cache/abc", "/var/lib/firstboot/.complete.json123",
		"/var/lib/calico/nodename", "/etc/systemd/system/calico-node.service",
		"/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/ssh/ssh_host_rsa_key-cert.pub", "/etc/dropbear/dropbear_rsa_host_key",
		"/var/lib/cloud/instances/i-1/user-data.txt", "/var/lib/cloud/data/instance-id", "/var/lib/cloud/sem/config_scripts_per_once.once",
		"/var/lib/dhcp/dhclient.leases", "/var/lib/dhcp/dhclient.eth0.leases", "/var/lib/dhclient/dhclient--eth0.lease",
		"/var/lib/dhcpcd/eth0.lease", "/var/lib/dhcpcd/duid", "/var/lib/NetworkManager/internal-abc-eth0.lease", "/var/lib/NetworkManager/secret_key",
		"/var/lib/systemd/network/x", "/run/systemd/netif/leases/2",
		"/var/lib/systemd/random-seed", "/boot/efi/loader/random-seed", "/efi/loader/random-seed", "/boot/loader/random-seed", "/var/lib/urandom/random-seed", "/var/lib/misc/random-seed", "/var/lib/random-seed", "/var/lib/seedrng/seed.credit",
		"/etc/hostname", "/etc/nvme/hostnqn", "/etc/nvme/hostid", "/etc/lvm/devices/system.devices", "/etc/krb5.keytab", "/var/lib/samba/private/secrets.tdb",
		"/etc/salt/minion_id", "/etc/salt/pki/minion/minion.pem", "/etc/salt/pki/minion/minion.pub", "/etc/chef/client.pem",
		"/etc/puppetlabs/puppet/ssl/private_keys/web-1.pem", "/etc/puppetlabs/puppet/ssl/certs/web-1.pem", "/var/lib/puppet/ssl/certs/camera.pem",
		"/etc/pki/consumer/key.pem", "/etc/pki/entitlement/123.pem", "/etc/sysconfig/rhn/systemid", "/etc/insights-client/machine-id",
		"/var/lib/ubuntu-advantage/private/machine-token.json", "/var/lib/tailscale/tailscaled.state", "/var/lib/zerotier-one/identity.secret",
		"/var/lib/amazon/ssm/registration", "/var/lib/dhcpv6/dhcp6c_duid", "/etc/dhcpcd.duid",
		"/var/lib/systemd/credential.secret", "/etc/docker/key.json", "/var/lib/docker/engine-id",
	}
	for _, path := range removed {
		files[path] = "of one machine"
	}
	files["/var/lib/cloud/instance"] = "->/var/lib/cloud/instances/i-1"
	files["/etc/systemd/system/docker.service.wants/calico-node.service"] = "->/etc/systemd/system/calico-node.service"
	return files, append(removed, "/var/lib/cloud/instance", "/etc/systemd/system/docker.service.wants/calico-node.service")
}

func TestSealRemovesEveryIdentityAndNothingElse(t *testing.T) {
	files, removed := usedImage()
	h := image(t, files)
	before := tree(t, h.Root())
	if n := len(identities(t, h, SealOptions{})); n < 30 {
		t.Errorf("only %d identities found", n)
	}
	seal(t, h, SealOptions{})
	if left := identities(t, h, SealOptions{}); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	after := tree(t, h.Root())
	for path, was := range before {
		now, exists := after[path]
		switch {
		case path == machineID:
			if !exists || now != "" {
				t.Errorf("%s is %q, exists: %v", path, now, exists)
			}
		case path == dbusMachineID:
			if now != machineID {
				t.Errorf("%s links to %q", path, now)
			}
		case slices.Contains(removed, path):
			if exists {
				t.Errorf("%s still exists", path)
			}
		case !exists && was == "directory": // it contained an identity
		case now != was:
			t.Errorf("%s was changed from %q to %q but is not an identity", path, was, now)
		}
	}
	for path := range after {
		if _, old := before[path]; !old {
			t.Errorf("%s is new", path)
		}
	}
}

func TestEachIdentityIsFoundAlone(t *testing.T) {
	_, removed := usedImage()
	for _, path := range removed {
		if got := identities(t, image(t, map[string]string{path: "of one machine"}), SealOptions{}); len(got) != 1 {
			t.Errorf("%s: found %q", path, got)
		}
	}
}

func TestMachineIDIsEmptiedOrUninitialized(t *testing.T) {
	const id = "6c0e5c3fd0f14d2b8f6f2b6b9d2a1c33\n"
	for _, c := range []struct {
		before        string // "-": no file
		uninitialized bool
		found         bool
		after         string
	}{
		{id, false, true, ""}, {"", false, false, ""}, {"uninitialized\n", false, false, "uninitialized\n"}, {"-", false, false, "-"},
		{id, true, true, "uninitialized\n"}, {"", true, true, "uninitialized\n"}, {"uninitialized\n", true, false, "uninitialized\n"},
		{"-", true, true, "uninitialized\n"}, {"no id at all", false, true, ""},
	} {
		files := map[string]string{"/etc/os-release": ""}
		if c.before != "-" {
			files[machineID] = c.before
		}
		h, o := image(t, files), SealOptions{Uninitialized: c.uninitialized}
		if got := identities(t, h, o); (len(got) > 0) != c.found {
			t.Errorf("%q, %v: found %q", c.before, o, got)
		}
		seal(t, h, o)
		after := "-"
		if data, err := h.ReadFile(machineID); err == nil {
			after = string(data)
		}
		if after != c.after {
			t.Errorf("%q, %v: became %q, want %q", c.before, o, after, c.after)
		}
	}
}

// The file is written in place, because image builders may mount another file over
// it.
func TestMachineIDKeepsItsMode(t *testing.T) {
	h := image(t, nil)
	write(t, h.Root()+machineID, "6c0e5c3fd0f14d2b8f6f2b6b9d2a1c33\n", 0o600)
	if err := os.Chmod(h.Root()+machineID, 0o604); err != nil {
		t.Fatal(err)
	}
	seal(t, h, SealOptions{})
	if info, err := h.Stat(machineID); err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestKeepCacheKeepsTheCache(t *testing.T) {
	h := image(t, map[string]string{"/var/lib/firstboot/cache/abc": "x"})
	if got := identities(t, h, SealOptions{KeepCache: true}); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	if got := identities(t, h, SealOptions{}); len(got) != 1 {
		t.Errorf("found %q", got)
	}
}

func TestEmptyAndLinkedFilesAreNotIdentities(t *testing.T) {
	h := image(t, map[string]string{
		"/var/lib/dbus/machine-id":     "->/etc/machine-id",
		"/etc/issue.d/firstboot.issue": "->/run/issue.d/firstboot.issue",
		"/etc/machine-id":              "",
	})
	for _, dir := range []string{"/var/lib/cloud/instances", "/var/lib/cloud/data", "/var/lib/systemd/network", "/var/lib/docker/swarm"} {
		if err := h.MkdirAll(dir); err != nil { // packages ship these directories
			t.Fatal(err)
		}
	}
	if got := identities(t, h, SealOptions{}); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	failed := image(t, map[string]string{"/etc/issue.d/firstboot.issue": "firstboot failed on host-1"})
	if got := identities(t, failed, SealOptions{}); len(got) != 1 {
		t.Errorf("the message of a failed run: found %q", got)
	}
}

func TestSwarmMembershipIsReportedAndNotRemoved(t *testing.T) {
	h := image(t, map[string]string{swarmState: "{}"})
	found, err := Identities(h, SealOptions{})
	if err != nil || len(found) != 1 || found[0].Action != "report" {
		t.Fatalf("found %v, %v", found, err)
	}
	if err := found[0].Remove(); err == nil || !strings.Contains(err.Error(), "docker swarm leave") {
		t.Errorf("got %v", err)
	}
	if !h.Exists(swarmState) {
		t.Error("Docker's state was removed")
	}
}

func TestSealWritesOnlyInsideTheImage(t *testing.T) {
	outside := t.TempDir()
	for _, name := range []string{"ssh_host_rsa_key", "random-seed", "instance/x", "complete.json", "machine-id"} {
		write(t, outside+"/"+name, "6c0e5c3fd0f14d2b8f6f2b6b9d2a1c33", 0o644)
	}
	before := tree(t, outside)
	h := image(t, map[string]string{
		"/etc/ssh": "->" + outside, "/var/lib/systemd": "->" + outside, "/var/lib/cloud": "->../../../../../../../.." + outside,
		"/var/lib/firstboot": "->" + outside, "/etc/machine-id": "->" + outside + "/machine-id",
	})
	seal(t, h, SealOptions{})
	if diff := cmp.Diff(before, tree(t, outside)); diff != "" {
		t.Errorf("the build machine was changed:\n%s", diff)
	}
}

func TestSealedImageGeneratesSSHHostKeys(t *testing.T) {
	debian := map[string]string{"/usr/sbin/sshd": "", "/usr/bin/ssh-keygen": "", "/usr/lib/systemd/system/ssh.service": ""}
	h := image(t, debian)
	changes, err := HostKeyChanges(h)
	if err != nil || len(changes) != 2 {
		t.Fatalf("got %v, %v", changes, err)
	}
	for _, c := range changes {
		if err := c.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.Readlink("/etc/systemd/system/ssh.service.wants/firstboot-ssh-keys.service"); got != hostKeysPath || !h.Exists(hostKeysPath) {
		t.Errorf("the unit is wanted by %q", got)
	}
	if again, err := HostKeyChanges(h); err != nil || len(again) > 0 {
		t.Errorf("a second seal would change %v, %v", again, err)
	}
	fedora := map[string]string{"/usr/sbin/sshd": "", "/usr/bin/ssh-keygen": "", "/usr/lib/systemd/system/sshd-keygen@.service": ""}
	for name, files := range map[string]map[string]string{"no sshd": {"/usr/bin/ssh-keygen": ""}, "fedora": fedora} {
		if got, err := HostKeyChanges(image(t, files)); err != nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

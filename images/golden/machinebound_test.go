package golden

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/certtest"
)

// wgKey has the form of a key of WireGuard.
const wgKey = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="

const boundConnection = "[ethernet]\nmac-address=52:54:00:00:00:01\n"

func TestIdentityInsideFilesIsFound(t *testing.T) {
	const cloudInit = "/usr/bin/cloud-init"
	netplan := "network:\n  ethernets:\n    ens3: {match: {macaddress: \"52:54:00:AB:00:01\"}}\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string // NAME ACTION PATH; "" if nothing is found
	}{
		"host name":               {map[string]string{"/etc/hostname": "builder-7\n"}, "host-name remove /etc/hostname"},
		"no host's name":          {map[string]string{"/etc/hostname": "# none\nlocalhost\n"}, ""},
		"iSCSI":                   {map[string]string{initiatorPath: "InitiatorName=iqn.1993-08.org.debian:01:00\n"}, "iscsi-name remove " + initiatorPath},
		"iSCSI on Debian":         {map[string]string{initiatorPath: "InitiatorName=iqn.x\n", "/lib/open-iscsi/startup-checks.sh": ""}, "iscsi-name write " + initiatorPath},
		"iSCSI, to be generated":  {map[string]string{initiatorPath: "# InitiatorName=iqn.x\nGenerateName=yes\n"}, ""},
		"netplan":                 {map[string]string{"/etc/netplan/50-cloud-init.yaml": netplan}, "mac-address report /etc/netplan/50-cloud-init.yaml"},
		"netplan of cloud-init":   {map[string]string{"/etc/netplan/50-cloud-init.yaml": netplan, cloudInit: ""}, "mac-address remove /etc/netplan/50-cloud-init.yaml"},
		"netplan, no MAC address": {map[string]string{"/etc/netplan/01-dhcp.yaml": "network: {ethernets: {all: {match: {name: \"e*\"}}}}\n"}, ""},
		"netplan that cloud-init keeps": {map[string]string{"/etc/netplan/50-cloud-init.yaml": netplan, cloudInit: "",
			"/etc/cloud/cloud.cfg.d/99-x.cfg": "network: {config: disabled}\n"}, "mac-address report /etc/netplan/50-cloud-init.yaml"},
		"NetworkManager":              {map[string]string{"/etc/NetworkManager/system-connections/eth0.nmconnection": boundConnection}, "mac-address report /etc/NetworkManager/system-connections/eth0.nmconnection"},
		"networkd":                    {map[string]string{"/etc/systemd/network/10-lan.network": "[Match]\nMACAddress=52-54-00-00-00-01\n"}, "mac-address report /etc/systemd/network/10-lan.network"},
		"ifcfg":                       {map[string]string{"/etc/sysconfig/network-scripts/ifcfg-eth0": "HWADDR=52:54:00:00:00:01\n"}, "mac-address report /etc/sysconfig/network-scripts/ifcfg-eth0"},
		"ifupdown":                    {map[string]string{"/etc/network/interfaces": "iface eth0 inet dhcp\n  hwaddress 52:54:00:00:00:01\n"}, "mac-address report /etc/network/interfaces"},
		"udev's own names":            {map[string]string{"/etc/udev/rules.d/70-persistent-net.rules": "ATTR{address}==\"52:54:00:00:00:01\", NAME=\"eth0\"\n"}, "mac-address remove /etc/udev/rules.d/70-persistent-net.rules"},
		"other udev rules":            {map[string]string{"/etc/udev/rules.d/10-names.rules": "ATTR{address}==\"52:54:00:00:00:01\", NAME=\"lan\"\n"}, "mac-address report /etc/udev/rules.d/10-names.rules"},
		"a comment":                   {map[string]string{"/etc/udev/rules.d/10-names.rules": "# ATTR{address}==\"52:54:00:00:00:01\"\n"}, ""},
		"a longer number":             {map[string]string{"/etc/systemd/network/1.network": "[Network]\nIPv6Token=::11:22:33:44:55:66:77\n"}, "?"},
		"host key":                    {map[string]string{sshdConfig: "Port 22\nhostkey = \"/etc/ssh/keys/host\"\n", "/etc/ssh/keys/host": "k"}, "ssh-host-keys report /etc/ssh/keys/host"},
		"host key in a drop-in":       {map[string]string{sshdConfig + ".d/10-x.conf": "HostKey /srv/key\n", "/srv/key": "k"}, "ssh-host-keys report /srv/key"},
		"host key with a comment":     {map[string]string{sshdConfig: "HostKey /srv/key # ours\n", "/srv/key": "k"}, "ssh-host-keys report /srv/key"},
		"host key, quoted":            {map[string]string{sshdConfig: "HostKey \"/srv/my key\"  # ours\n", "/srv/my key": "k"}, "ssh-host-keys report /srv/my key"},
		"usual key with a comment":    {map[string]string{sshdConfig: "HostKey /etc/ssh/ssh_host_rsa_key # ours\n"}, ""},
		"Debian's own name":           {map[string]string{hostsPath: "127.0.0.1 localhost\n127.0.1.1 builder-7\n"}, "host-name write " + hostsPath},
		"hosts without its name":      {map[string]string{hostsPath: "127.0.0.1 localhost\n127.0.1.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.0.0.9 mirror # builder-7\n", "/etc/hostname": "localhost\n"}, ""},
		"name for people":             {map[string]string{machineInfoPath: "PRETTY_HOSTNAME=\"Builder 7\"\n"}, "host-name remove " + machineInfoPath},
		"name for people, and more":   {map[string]string{machineInfoPath: "CHASSIS=server\nPRETTY_HOSTNAME=B"}, "host-name write " + machineInfoPath},
		"machine-info without name":   {map[string]string{machineInfoPath: "#PRETTY_HOSTNAME=B\nCHASSIS=server\n"}, ""},
		"networkd of the vendor":      {map[string]string{"/usr/lib/systemd/network/10-lan.link": "[Match]\nPermanentMACAddress=52:54:00:00:00:01\n"}, "mac-address report /usr/lib/systemd/network/10-lan.link"},
		"drop-in of a link":           {map[string]string{"/etc/systemd/network/10-lan.link.d/mac.conf": "[Match]\nMACAddress=52:54:00:00:00:01\n"}, "mac-address report /etc/systemd/network/10-lan.link.d/mac.conf"},
		"drop-in of a network":        {map[string]string{"/usr/lib/systemd/network/a.network.d/mac.conf": "[Match]\nMACAddress=52:54:00:00:00:01\n"}, "mac-address report /usr/lib/systemd/network/a.network.d/mac.conf"},
		"address of a bridge":         {map[string]string{"/etc/systemd/network/br0.netdev": "[NetDev]\nMACAddress=52:54:00:00:00:01\n"}, "mac-address report /etc/systemd/network/br0.netdev"},
		"NetworkManager's vendor":     {map[string]string{"/usr/lib/NetworkManager/system-connections/a.nmconnection": boundConnection}, "mac-address report /usr/lib/NetworkManager/system-connections/a.nmconnection"},
		"NetworkManager's devices":    {map[string]string{"/etc/NetworkManager/conf.d/a.conf": "[device]\nmatch-device=mac:52:54:00:00:00:01\n"}, "mac-address report /etc/NetworkManager/conf.d/a.conf"},
		"udev rules of the vendor":    {map[string]string{"/usr/lib/udev/rules.d/1.rules": "ATTR{address}==\"52:54:00:00:00:01\"\n"}, "mac-address report /usr/lib/udev/rules.d/1.rules"},
		"wg-quick":                    {map[string]string{"/etc/wireguard/wg0.conf": "[Interface]\nPrivateKey = " + wgKey + "\n[Peer]\nPublicKey = " + wgKey + "\n"}, "wireguard-key report /etc/wireguard/wg0.conf"},
		"WireGuard key file":          {map[string]string{"/etc/wireguard/private.key": wgKey + "\n", "/etc/wireguard/wg0.pub": wgKey + "\n"}, "wireguard-key report /etc/wireguard/private.key"},
		"WireGuard of networkd":       {map[string]string{"/etc/systemd/network/wg0.netdev": "[WireGuard]\nPrivateKey=" + wgKey + "\n"}, "wireguard-key report /etc/systemd/network/wg0.netdev"},
		"WireGuard key elsewhere":     {map[string]string{"/etc/systemd/network/wg0.netdev": "[WireGuard]\nPrivateKeyFile=/srv/wg.key\n", "/srv/wg.key": wgKey}, "wireguard-key report /srv/wg.key"},
		"WireGuard of NetworkManager": {map[string]string{"/etc/NetworkManager/system-connections/wg0": "[wireguard]\nprivate-key=" + wgKey + "\n"}, "wireguard-key report /etc/NetworkManager/system-connections/wg0"},
		"WireGuard of netplan":        {map[string]string{"/etc/netplan/wg.yaml": "network: {tunnels: {wg0: {mode: wireguard, key: \"" + wgKey + "\"}}}\n"}, "wireguard-key report /etc/netplan/wg.yaml"},
		"public keys of WireGuard":    {map[string]string{"/etc/wireguard/peers.conf": "[Peer]\nPublicKey = " + wgKey + "\n", "/etc/systemd/network/wg.netdev": "[WireGuardPeer]\nPublicKey=" + wgKey + "\n"}, ""},
		"host key that is missing":    {map[string]string{sshdConfig: "HostKey /etc/ssh/keys/host\n"}, ""},
		"host key, commented out":     {map[string]string{sshdConfig: "#HostKey /srv/key\n", "/srv/key": "k"}, ""},
		"host key at a usual path":    {map[string]string{sshdConfig: "HostKey /etc/ssh/ssh_host_rsa_key\n", "/etc/ssh/ssh_host_rsa_key": "k"}, "ssh-host-keys remove /etc/ssh/ssh_host_rsa_key"},
	} {
		got := identities(t, image(t, c.files), SealOptions{})
		switch {
		case c.want == "?": // an IPv6 address may look like a MAC address: then a person decides
			if slices.ContainsFunc(got, func(s string) bool { return !strings.Contains(s, " report ") }) {
				t.Errorf("%s: found %q", name, got)
			}
		case c.want == "" && len(got) > 0, c.want != "" && !slices.Equal(got, []string{c.want}):
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}

// pem returns a client certificate for etcd.
func pem(t *testing.T, c certtest.Certificate) string {
	t.Helper()
	data, err := os.ReadFile(certtest.NewCA(t, t.TempDir(), "ca").Issue("client", c).Cert)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestClientCertificateOfOneMachineIsFound(t *testing.T) {
	const file = "/etc/firstboot/etcd.crt"
	const found, name, hosts = "etcd-certificate report " + file, "host-name report " + hostnamePath, "host-name report " + hostsPath
	shared := certtest.Certificate{CN: "calico"}
	for what, c := range map[string]struct {
		certificate certtest.Certificate
		files       map[string]string // besides the configuration and the certificate
		want        []string
	}{
		"CN":                     {certtest.Certificate{CN: "builder-7"}, map[string]string{hostnamePath: "Builder-7\n"}, []string{found, name}},
		"CN with a domain":       {certtest.Certificate{CN: "builder-7.example.org"}, map[string]string{hostnamePath: "builder-7\n"}, []string{found, name}},
		"host name with domain":  {certtest.Certificate{CN: "builder-7"}, map[string]string{hostnamePath: "builder-7.example.org\n"}, []string{found, name}},
		"DNS name":               {certtest.Certificate{CN: "calico", Names: []string{"builder-7.lan"}}, map[string]string{hostnamePath: "builder-7\n"}, []string{found, name}},
		"address in /etc/hosts":  {certtest.Certificate{CN: "calico", IPs: []net.IP{net.IPv4(10, 0, 0, 7)}}, map[string]string{hostnamePath: "builder-7\n", hostsPath: "10.0.0.7 builder-7.lan builder-7\n"}, []string{found, name, hosts}},
		"another spelling":       {certtest.Certificate{CN: "calico", IPs: []net.IP{net.ParseIP("2001:db8::7")}}, map[string]string{config.DropInDir + "/1.yaml": "host: {address: '2001:DB8:0::7'}"}, []string{found}},
		"configured name":        {certtest.Certificate{CN: "web-1"}, map[string]string{config.DropInDir + "/1.yaml": "host: {name: web-1}"}, []string{found}},
		"configured address":     {certtest.Certificate{CN: "calico", IPs: []net.IP{net.IPv4(10, 0, 0, 7)}}, map[string]string{config.DropInDir + "/1.yaml": "host: {address: 10.0.0.7}"}, []string{found}},
		"shared":                 {shared, map[string]string{hostnamePath: "builder-7\n", hostsPath: "10.0.0.9 etcd\n"}, []string{"host-name remove " + hostnamePath}},
		"similar name":           {certtest.Certificate{CN: "builder-70"}, map[string]string{hostnamePath: "builder-7\n"}, []string{"host-name remove " + hostnamePath}},
		"same name, other hosts": {certtest.Certificate{CN: "web-1.a.lan"}, map[string]string{config.DropInDir + "/1.yaml": "host: {name: web-1.b.lan}"}, nil},
		"loopback":               {certtest.Certificate{Names: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 1, 1)}}, map[string]string{hostnamePath: "localhost\n", hostsPath: "127.0.1.1 localhost\n"}, nil},
	} {
		c.files[config.MainFile] = "etcd: {certFile: " + file + "}" // user-data completes it
		c.files[file] = pem(t, c.certificate)
		if got := identities(t, image(t, c.files), SealOptions{}); !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q, want %q", what, got, c.want)
		}
	}
	joined := image(t, map[string]string{
		file: pem(t, certtest.Certificate{CN: "builder-7"}), hostnamePath: "builder-7\n",
		state.EffectivePath: "effective: 2\nconfig:\n  etcd:\n    endpoints: [\"https://10.0.0.1:2379\"]\n    caFile: /etc/firstboot/ca.crt\n    certFile: " + file + "\n    keyFile: /etc/firstboot/etcd.key\n  pool: {cidr: 10.213.0.0/16}\n",
	})
	if got := identities(t, joined, SealOptions{}); !slices.Contains(got, found) {
		t.Errorf("configured outside of the image's files: found %q", got)
	}
	for what, text := range map[string]string{
		"missing": "->none", "a directory": "->..", "empty": "", "no PEM": "x", "too large": strings.Repeat("x", 5<<20),
		"damaged": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		h := image(t, map[string]string{config.MainFile: "etcd: {certFile: " + file + "}", file: text, hostnamePath: "builder-7\n"})
		if got := identities(t, h, SealOptions{}); !slices.Equal(got, []string{"host-name remove " + hostnamePath}) {
			t.Errorf("%s certificate: found %q", what, got)
		}
	}
}

// A certificate is found again after a seal, because the name of its machine stays.
func TestClientCertificateIsFoundUntilItIsReplaced(t *testing.T) {
	const file = "/etc/firstboot/etcd.crt"
	bound := pem(t, certtest.Certificate{CN: "builder-7"})
	h := image(t, map[string]string{config.MainFile: "etcd: {certFile: " + file + "}", file: bound, hostnamePath: "builder-7\n", machineID: "1\n"})
	for range 2 {
		found, err := Identities(h, SealOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range found {
			_ = i.Remove() // an error if a person must
		}
		want := []string{"etcd-certificate report " + file, "host-name report " + hostnamePath}
		if got := identities(t, h, SealOptions{}); !slices.Equal(got, want) {
			t.Fatalf("left: %q, want %q", got, want)
		}
	}
	if data, err := h.ReadFile(file); err != nil || string(data) != bound {
		t.Errorf("the certificate was changed: %v", err)
	}
	if err := h.WriteFile(file, []byte(pem(t, certtest.Certificate{CN: "calico"})), 0o644); err != nil {
		t.Fatal(err)
	}
	seal(t, h, SealOptions{})
	if left := identities(t, h, SealOptions{}); len(left) > 0 || h.Exists(hostnamePath) {
		t.Errorf("left: %q", left)
	}
}

// seal removes what it can, and names the rest.
func TestSealKeepsTheNetworkAndNamesIt(t *testing.T) {
	const connection = "/etc/NetworkManager/system-connections/eth0.nmconnection"
	h := image(t, map[string]string{"/etc/hostname": "builder-7\n", connection: boundConnection, initiatorPath: "InitiatorName=iqn.x\n", "/lib/open-iscsi/startup-checks.sh": ""})
	found, err := Identities(h, SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range found {
		err := i.Remove()
		if (i.Action == "report") != (err != nil) {
			t.Errorf("%s %s: %v", i.Action, i.Path, err)
		}
		if i.Action == "report" && !strings.Contains(err.Error(), connection) {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
	if got := identities(t, h, SealOptions{}); !slices.Equal(got, []string{"mac-address report " + connection}) {
		t.Errorf("left: %q", got)
	}
	if data, err := h.ReadFile(connection); err != nil || string(data) != boundConnection {
		t.Errorf("the connection was changed: %q, %v", data, err)
	}
}

// seal edits files that are not the machine's alone.
func TestSealRemovesOnlyTheNamesOfTheMachine(t *testing.T) {
	const hosts = "# static\n127.0.0.1\tlocalhost builder-7\n127.0.1.1\tbuilder-7.example.org builder-7\n::1 localhost ip6-localhost BUILDER-7. # v6\n" +
		"10.0.0.7 builder-7 mirror # both\n10.0.0.8 builder-70 xbuilder-7\n\n10.0.0.9 builder-7.lan\n"
	const want = "# static\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost # v6\n10.0.0.7\tmirror # both\n10.0.0.8 builder-70 xbuilder-7\n\n"
	h := image(t, map[string]string{hostsPath: hosts, hostnamePath: "builder-7\n", machineInfoPath: "CHASSIS=server\nPRETTY_HOSTNAME=\"Builder 7\"\nLOCATION=x\n"})
	seal(t, h, SealOptions{})
	for path, want := range map[string]string{hostsPath: want, machineInfoPath: "CHASSIS=server\nLOCATION=x\n"} {
		if got, err := h.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: got\n%swant\n%s%v", path, got, want, err)
		}
	}
	if left := identities(t, h, SealOptions{}); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

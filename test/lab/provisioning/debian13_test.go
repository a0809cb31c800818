//go:build lab

package provisioning

import (
	"testing"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// wantDebian13 checks the system of a Debian 13 host that has joined, and that
// firstboot left it as it is, apart from what a local network needs.
func wantDebian13(t *testing.T, h *lab.Host) {
	labtest.Contains(t, labtest.Run(t, h, 0, "cat /etc/os-release; uname -r; systemctl --version; rpm --version"),
		"VERSION_CODENAME=trixie", "6.12.", "systemd 257", "RPM version 4.20.")
	labtest.Equal(t, "AppArmor", "Y\n", labtest.Run(t, h, 0, "cat /sys/module/apparmor/parameters/enabled"))
	labtest.Equal(t, "file system of the control groups", "cgroup2fs\n", labtest.Run(t, h, 0, "stat -f -c %T /sys/fs/cgroup"))
	labtest.Equal(t, "disable_ipv6", "0\n0\n", labtest.Run(t, h, 0, "cat /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/net/ipv6/conf/eth0/disable_ipv6"))
	labtest.Contains(t, labtest.Run(t, h, 0, "ip -6 -o addr show eth0"), "fe80::")
	labtest.Equal(t, "failed units", "", labtest.Run(t, h, 0, "systemctl list-units --failed --no-legend --plain"))

	labtest.Contains(t, labtest.Run(t, h, 0, "docker info -f '{{.ServerVersion}} {{.SecurityOptions}} cgroup {{.CgroupVersion}}'"), "26.1.5", "name=apparmor", "cgroup 2")
	labtest.Contains(t, labtest.Run(t, h, 0, "docker run --rm --net=none "+golden.PingImage+" cat /proc/self/attr/current"), "docker-default (enforce)")
	labtest.Equal(t, "scope of the network", "local\n", labtest.Run(t, h, 0, "docker network inspect -f '{{.Scope}}' "+lab.Network))
	labtest.NotContains(t, labtest.Run(t, h, 0, "cat /etc/docker/daemon.json; true"), "cluster")
	labtest.Run(t, h, 0, "systemctl is-active firstboot-adapter.socket firstboot-adapter.service firstboot-etcd.service")
	labtest.Contains(t, labtest.Run(t, h, 0, "firstboot status"), "network: local")
	t.Logf("%s", labtest.Run(t, h, 0, "systemd-analyze; systemd-analyze critical-chain --no-pager"))
}

// wantPoolOfGlobalNetwork checks that the pool, which was bound to the global network
// before the host joined, still is.
func wantPoolOfGlobalNetwork(t *testing.T, h *lab.Host) {
	labtest.NotContains(t, labtest.Run(t, h, 0, "cat /var/lib/firstboot/adapter.json"), "firstboot-"+lab.Network)
}

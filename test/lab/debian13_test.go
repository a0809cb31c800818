//go:build lab

package lab_test

import (
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// TestDebian13 tests the lab itself: a Debian 13 host and an etcd without the v2
// API. firstboot does not run.
func TestDebian13(t *testing.T) {
	l := labtest.New(t, lab.Options{
		Hosts: 1, Debian: []golden.Release{golden.Debian13}, Etcd: labnet.EtcdOptions{NoV2: true},
		Append: "systemd.mask=firstboot.service",
	})
	h := l.Hosts[0]
	start := time.Now()
	labtest.NoError(t, h.Boot(labtest.Context(t)))
	labtest.NoError(t, h.WaitUp(labtest.Within(t, 10*time.Minute)))
	t.Logf("power-on to login: %s (%s)", time.Since(start).Round(time.Second), l.Accel)
	labtest.Step(t, "the versions of Debian 13", func(t *testing.T) { wantVersions(t, h) })
	labtest.Step(t, "AppArmor, cgroup v2 and IPv6 are on", func(t *testing.T) { wantKernelFeatures(t, h) })
	labtest.Step(t, "Docker runs the node image privileged", func(t *testing.T) { wantContainers(t, l) })
	labtest.Step(t, "etcd has no v2 API", func(t *testing.T) { wantNoV2(t, l) })
}

func wantVersions(t *testing.T, h *lab.Host) {
	labtest.Contains(t, labtest.Run(t, h, 0, "cat /etc/os-release"), "VERSION_CODENAME=trixie")
	labtest.Contains(t, labtest.Run(t, h, 0, "uname -r"), "6.12.")
	labtest.Contains(t, labtest.Run(t, h, 0, "systemctl --version"), "systemd 257")
	labtest.Contains(t, labtest.Run(t, h, 0, "rpm --version"), "RPM version 4.20.")
	// The format fails unless the docker command reaches the daemon.
	labtest.Contains(t, labtest.Run(t, h, 0, "docker version -f 'client {{.Client.Version}} server {{.Server.Version}}'"), "client 26.1.5", "server 26.1.5")
}

func wantKernelFeatures(t *testing.T, h *lab.Host) {
	labtest.Equal(t, "AppArmor", "Y\n", labtest.Run(t, h, 0, "cat /sys/module/apparmor/parameters/enabled"))
	labtest.Equal(t, "file system of the control groups", "cgroup2fs\n", labtest.Run(t, h, 0, "stat -f -c %T /sys/fs/cgroup"))
	labtest.Equal(t, "disable_ipv6", "0\n0\n", labtest.Run(t, h, 0, "cat /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/net/ipv6/conf/eth0/disable_ipv6"))
	labtest.Contains(t, labtest.Run(t, h, 0, "ip -6 -o addr show eth0"), h.Address6().String()+"/64", "fe80::")
	labtest.Equal(t, "failed units", "", labtest.Run(t, h, 0, "systemctl list-units --failed --no-legend --plain"))
	labtest.NotContains(t, labtest.Run(t, h, 0, "journalctl --no-pager -b"), "ordering cycle")
	t.Logf("%s", labtest.Run(t, h, 0, "systemd-analyze; systemd-analyze blame | head -30; systemd-analyze critical-chain --no-pager"))
}

func wantContainers(t *testing.T, l *lab.Lab) {
	h := l.Hosts[0]
	labtest.Contains(t, labtest.Run(t, h, 0, "docker info -f '{{.SecurityOptions}} cgroup {{.CgroupVersion}}'"), "name=apparmor", "cgroup 2")
	labtest.Contains(t, labtest.Run(t, h, 0, "docker run --rm --privileged --net=host --entrypoint calico-node "+l.Parts.NodeImageName+" -v"), "v3.23")
	// An unprivileged container has Docker's AppArmor profile.
	labtest.Contains(t, labtest.Run(t, h, 0, "docker run --rm --net=none "+golden.PingImage+" cat /proc/self/attr/current"), "docker-default (enforce)")
}

func wantNoV2(t *testing.T, l *lab.Lab) {
	client := l.Net.Client()
	defer client.CloseIdleConnections()
	answer, err := client.Get(l.Etcd.Endpoint + "/v2/keys/")
	labtest.NoError(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != 404 {
		t.Errorf("GET /v2/keys/ answers %s, want 404", answer.Status)
	}
}

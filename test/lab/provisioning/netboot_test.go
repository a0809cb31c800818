//go:build lab

package provisioning

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

// dnsmasqConfig is that of docs/pxe.md, with an address that the host keeps.
const dnsmasqConfig = `dhcp-range=%[1]s,static,12h
dhcp-host=%[2]s,%[3]s
dhcp-option=option:router,%[4]s
enable-tftp
tftp-root=%[5]s
dhcp-match=set:ipxe,175
dhcp-match=set:efi64,option:client-arch,7
dhcp-boot=tag:!ipxe,tag:!efi64,undionly.kpxe
dhcp-boot=tag:!ipxe,tag:efi64,ipxe.efi
dhcp-boot=tag:ipxe,%[6]s/boot.ipxe
`

// netboot is a machine with an empty disk, and what it boots from.
type netboot struct {
	s *environment
	h *lab.Host
}

// newNetboot prepares the folder that hosts boot from, and a machine.
func newNetboot(t *testing.T, s *environment) *netboot {
	t.Helper()
	ctx := labtest.Context(t)
	image, err := s.goldenImage(ctx)
	labtest.NoError(t, err)
	live, err := s.liveRoot(ctx)
	labtest.NoError(t, err)
	n := &netboot{s: s}
	n.h, err = s.lab.AddHost(ctx, "pxe-1", machine.Spec{DiskMB: 8 << 10})
	labtest.NoError(t, err)

	s.publish(t, image, "golden.raw.zst")
	s.publish(t, live, "initrd.img")
	s.publish(t, s.lab.Image.Kernel, "vmlinuz")
	sum, err := run(ctx, "sha256sum", image)
	labtest.NoError(t, err)
	mac, hosts := n.h.Machine().MAC, filepath.Join(s.lab.Dir, "hosts.yaml")
	labtest.NoError(t, os.WriteFile(hosts, fmt.Appendf(nil, "hosts:\n  - mac: %s\n    name: %s\n", mac, n.h.Name), 0o644))
	said := s.firstboot(t, "render", "pxe", "--config", s.config, "--dir", s.web, "--url", s.url, "--hosts", hosts, "--arg", "console=ttyS0", "--arg", "net.ifnames=0",
		"--image", s.url+"/golden.raw.zst", "--sha256", strings.Fields(sum)[0], "--disk", "/dev/vda")
	labtest.Contains(t, said, s.url+"/boot.ipxe")
	labtest.NotContains(t, said, "is not in")
	w := s.lab.Net
	_, err = w.Dnsmasq(s.lab.Dir, fmt.Sprintf(dnsmasqConfig, w.Prefix.Addr(), mac, n.h.Address, w.Gateway(), s.web, s.url))
	labtest.NoError(t, err)
	return n
}

// installs: firmware, iPXE, live root, disk. The machine is powered on.
func (n *netboot) installs(t *testing.T) {
	began := time.Now()
	ctx := labtest.Within(t, joinTime)
	line, err := n.h.WaitConsole(ctx, "written, verified and read back")
	labtest.NoError(t, err)
	t.Logf("after %s: %s", time.Since(began).Round(time.Second), line)
	asked := n.s.askedBy(n.h)
	mac := strings.ReplaceAll(n.h.Machine().MAC, ":", "-")
	labtest.Contains(t, asked, "/boot.ipxe\n/hosts/firstboot-mac-"+mac+".ipxe\n/vmlinuz\n/initrd.img\n/config/", "/golden.raw.zst")
	labtest.NotContains(t, n.h.Console.Text(), secret)
}

// joins: from the disk, with no connection but to etcd and to the server that
// is told of it.
func (n *netboot) joins(t *testing.T) {
	s, h := n.s, n.h
	ctx := labtest.Within(t, joinTime)
	labtest.NoError(t, h.WaitUp(ctx))
	// The marker is written last, by a run that has verified everything; to
	// ask for the status would be more talk to etcd.
	labtest.NoError(t, h.Wait(ctx, "the marker", func(ctx context.Context) error {
		_, err := h.Output(ctx, "test -e "+state.MarkerPath)
		return err
	}))
	counters := labtest.Run(t, h, 0, "iptables -t mangle -L COUNT -v -x -n")
	for what, some := range map[string]bool{"etcd": true, "report": true, "elsewhere": false} {
		found := regexp.MustCompile(`(?m)^\s*(\d+)\s.*/\* ` + what + ` \*/`).FindStringSubmatch(counters)
		if len(found) != 2 || (found[1] != "0") != some {
			t.Errorf("connections (%s) should be counted: %t\n%s", what, some, counters)
		}
	}
	docker := "journalctl --no-pager -b -u docker -o cat"
	labtest.Equal(t, "the number of Docker's starts", "1\n", labtest.Run(t, h, 0, docker+" | grep -c 'Started docker.service'"))
	labtest.NotContains(t, strings.ToLower(labtest.Run(t, h, 0, docker)), "reload")
	// Not written anew since the disk was.
	labtest.Equal(t, "what is newer than the installation", "", labtest.Run(t, h, 0, "find "+stages.DaemonPath+" -newer /etc/firstboot/installed-image"))

	labtest.Run(t, h, 0, "firstboot status --wait=10m")
	labtest.Equal(t, "its names", h.Name+"\n"+h.Name+"\n", labtest.Run(t, h, 0, "cat /etc/hostname; hostname"))
	if size := labtest.Run(t, h, 0, "stat --file-system --format=%b /"); len(strings.TrimSpace(size)) < len("1000000") {
		t.Errorf("its file system did not grow to that of the disk: %s blocks", size)
	}
	s.reported(t, h)
}

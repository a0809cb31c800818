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

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

// dnsmasqConfig is the configuration in docs/pxe.md, with a fixed address for the host.
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

// netboot is a machine with an empty disk that boots from the network.
type netboot struct {
	e *environment
	h *lab.Host
}

// newNetboot creates a machine, and publishes the files that it boots from.
func newNetboot(t *testing.T, e *environment) *netboot {
	t.Helper()
	ctx := labtest.Context(t)
	image, err := e.goldenImage(ctx)
	labtest.NoError(t, err)
	live, err := e.liveRoot(ctx)
	labtest.NoError(t, err)
	n := &netboot{e: e}
	n.h, err = e.lab.AddHost(ctx, "pxe-1", machine.Spec{DiskMB: 8 << 10})
	labtest.NoError(t, err)

	e.publish(t, image, "golden.raw.zst")
	e.publish(t, live, "initrd.img")
	e.publish(t, e.lab.Image.Kernel, "vmlinuz")
	digest, err := run(ctx, "sha256sum", image)
	labtest.NoError(t, err)
	mac, hosts := n.h.Machine().MAC, filepath.Join(e.lab.Dir, "hosts.yaml")
	labtest.NoError(t, os.WriteFile(hosts, fmt.Appendf(nil, "hosts:\n  - mac: %s\n    name: %s\n", mac, n.h.Name), 0o644))
	output := e.firstboot(t, "render", "pxe", "--config", e.config, "--dir", e.web, "--url", e.url, "--hosts", hosts, "--arg", "console=ttyS0", "--arg", "net.ifnames=0",
		"--image", e.url+"/golden.raw.zst", "--sha256", strings.Fields(digest)[0], "--disk", "/dev/vda")
	labtest.Contains(t, output, e.url+"/boot.ipxe")
	labtest.NotContains(t, output, "is not in")
	net := e.lab.Net
	_, err = net.Dnsmasq(e.lab.Dir, fmt.Sprintf(dnsmasqConfig, net.Prefix.Addr(), mac, n.h.Address, net.Gateway(), e.web, e.url))
	labtest.NoError(t, err)
	return n
}

// wantInstalled waits until the live system has written the disk. The machine has
// been powered on.
func (n *netboot) wantInstalled(t *testing.T) {
	start := time.Now()
	ctx := labtest.Within(t, joinTimeout)
	line, err := n.h.WaitConsole(ctx, "written, verified and read back")
	labtest.NoError(t, err)
	t.Logf("after %s: %s", time.Since(start).Round(time.Second), line)
	requests := n.e.requestsOf(n.h)
	mac := strings.ReplaceAll(n.h.Machine().MAC, ":", "-")
	labtest.Contains(t, requests, "/boot.ipxe\n/hosts/firstboot-mac-"+mac+".ipxe\n/vmlinuz\n/initrd.img\n/config/", "/golden.raw.zst")
	labtest.NotContains(t, n.h.Console.Text(), secret)
}

// wantJoined checks that the installed system joins, and that it connects only to
// etcd, BGP peers and the report server.
func (n *netboot) wantJoined(t *testing.T) {
	e, h := n.e, n.h
	ctx := labtest.Within(t, joinTimeout)
	labtest.NoError(t, h.WaitUp(ctx))
	// Wait for the marker, which is written last. firstboot status would open
	// more connections to etcd.
	labtest.NoError(t, h.Wait(ctx, "the marker", func(ctx context.Context) error {
		_, err := h.Output(ctx, "test -e "+state.MarkerPath)
		return err
	}))
	e.wantReported(t, h) // firstboot-report.service sends it after the marker
	counters := labtest.Run(t, h, 0, "iptables -t mangle -L COUNT -v -x -n")
	for name, used := range map[string]bool{"etcd": true, "report": true, "elsewhere": false} {
		found := regexp.MustCompile(`(?m)^\s*(\d+)\s.*/\* ` + name + ` \*/`).FindStringSubmatch(counters)
		if len(found) != 2 || (found[1] != "0") != used {
			t.Errorf("new connections (%s): want some: %t\n%s", name, used, counters)
		}
	}
	docker := "journalctl --no-pager -b -u docker -o cat"
	labtest.Equal(t, "number of starts of Docker", "1\n", labtest.Run(t, h, 0, docker+" | grep -c 'Started docker.service'"))
	labtest.NotContains(t, strings.ToLower(labtest.Run(t, h, 0, docker)), "reload")
	// The file was not written after the installation.
	labtest.Equal(t, "files that are newer than the installation", "", labtest.Run(t, h, 0, "find "+dockerd.ConfigPath+" -newer /etc/firstboot/installed-image"))

	labtest.Run(t, h, 0, "firstboot status --wait=10m")
	labtest.Equal(t, "static and current host name", h.Name+"\n"+h.Name+"\n", labtest.Run(t, h, 0, "cat /etc/hostname; hostname"))
	if size := labtest.Run(t, h, 0, "stat --file-system --format=%b /"); len(strings.TrimSpace(size)) < len("1000000") {
		t.Errorf("the file system did not grow to the size of the disk: %s blocks", size)
	}
}

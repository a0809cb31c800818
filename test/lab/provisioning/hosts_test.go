//go:build lab

package provisioning

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

// cloudInitHost is a host whose name, address and configuration come from a seed
// disk.
type cloudInitHost struct {
	e     *environment
	h     *lab.Host
	image golden.Image
}

func newCloudInitHost(t *testing.T, e *environment) cloudInitHost {
	t.Helper()
	image, err := e.cloudInitImage(labtest.Context(t))
	labtest.NoError(t, err)
	return e.addSeededHost(t, "cloud-1", image, machine.Spec{Image: image.Disk})
}

// addSeededHost adds a host with a seed disk. It boots the kernel of an image.
func (e *environment) addSeededHost(t *testing.T, name string, image golden.Image, spec machine.Spec) cloudInitHost {
	t.Helper()
	spec.Kernel, spec.Initrd, spec.Append = image.Kernel, image.Initrd, image.Release.KernelArguments()
	spec.Drives = []machine.Drive{{Path: filepath.Join(e.lab.Dir, name+"-seed.iso"), ReadOnly: true}}
	h, err := e.lab.AddHost(labtest.Context(t), name, spec)
	labtest.NoError(t, err)
	c := cloudInitHost{e: e, h: h, image: image}
	c.seed(t)
	return c
}

// networkConfig is a network configuration for cloud-init, version 2.
const networkConfig = `version: 2
ethernets:
  eth0:
    match: {macaddress: "%s"}
    addresses: [%s/%d]
    routes: [{to: 0.0.0.0/0, via: %s}]
`

// seed writes the host's seed disk. cloud-init 25.1 warns about a key that it does
// not know, so that the configuration is in write_files. args are additional
// arguments of firstboot render.
func (c cloudInitHost) seed(t *testing.T, args ...string) {
	t.Helper()
	m, net := c.h.Machine(), c.e.lab.Net
	network := filepath.Join(t.TempDir(), "network.yaml")
	text := fmt.Sprintf(networkConfig, m.MAC, c.h.Address, net.Prefix.Bits(), net.Gateway())
	labtest.NoError(t, os.WriteFile(network, []byte(text), 0o644))
	c.e.firstboot(t, append([]string{"render", "cloud-init", "--config", c.e.config13, "--write-files", "--format", "iso", "--hostname", c.h.Name,
		"--network-config", network, m.Drives[0].Path}, args...)...)
}

// wantJoined waits until cloud-init is done and the host is complete, and checks
// cloud-init's status and log.
func (c cloudInitHost) wantJoined(t *testing.T) {
	h := c.h
	labtest.NoError(t, h.WaitUp(labtest.Within(t, joinTimeout)))
	labtest.Run(t, h, 0, "cloud-init status --wait")
	complete(t, h)
	labtest.Contains(t, labtest.Run(t, h, 0, "cloud-init status --long"), "status: done", "NoCloud", "errors: []", "recoverable_errors: {}")
	labtest.Contains(t, labtest.Run(t, h, 0, "cloud-init --version"), "25.1")
	labtest.Equal(t, "warnings and errors of cloud-init", "", labtest.Run(t, h, 0, "grep -e WARNING -e ERROR -e Traceback -e DEPRECATED /var/log/cloud-init.log; true"))
	labtest.NotContains(t, labtest.Run(t, h, 0, "journalctl --no-pager -b"), secret, "ordering cycle")
	labtest.Equal(t, "world-readable files with the secret", "", labtest.Run(t, h, 0, fmt.Sprintf(readable, secret)))
	labtest.Contains(t, labtest.Run(t, h, 0, "cat /var/lib/cloud/instance/cloud-config.txt"), secret) // shows that the secret was there
	labtest.Contains(t, labtest.Run(t, h, 0, "firstboot config"), "https://", "/etc/firstboot/config.yaml")
	labtest.Equal(t, "modes of the configuration and of the client's key", "600\n600\n", labtest.Run(t, h, 0, "stat -c %a /etc/firstboot/config.yaml /etc/firstboot/etcd/client-key.pem"))
	wantMember(t, c.e, h)
	c.e.wantReported(t, h)
}

// readable prints the world-readable files that contain a text, if all their
// directories are accessible. It skips files of container images.
const readable = `find /etc /var /run /tmp /root /home -xdev -type f -perm /004 -not -path '/var/lib/docker/overlay2/*' -exec grep -ls -e %q {} + | while read -r f; do
d=$f; hidden=; while [ "$d" != / ]; do d=$(dirname "$d"); [ "$(stat -c %%A "$d" | cut -c 10)" = x ] || hidden=1; done; [ -n "$hidden" ] || echo "$f"; done; true`

// ignitionHost is a host to whose disk Ignition has applied a configuration.
type ignitionHost struct {
	e *environment
	h *lab.Host
}

// newIgnitionHost creates a host with Debian 12.
func newIgnitionHost(t *testing.T, e *environment) ignitionHost {
	t.Helper()
	return e.addIgnitionHost(t, e.lab.Image, initramfs{}, e.config)
}

// addIgnitionHost adds a host without firstboot, to whose disk the Ignition of an
// initramfs applies a configuration. args are additional arguments of firstboot
// render.
func (e *environment) addIgnitionHost(t *testing.T, from golden.Image, in initramfs, config string, args ...string) ignitionHost {
	t.Helper()
	ctx := labtest.Context(t)
	digest, err := run(ctx, "sha256sum", e.lab.Firstboot)
	labtest.NoError(t, err)
	rendered := filepath.Join(e.lab.Dir, "host.ign")
	e.firstboot(t, append([]string{"render", "ignition", "--config", config, "--install", e.url + "/firstboot", "--sha256", strings.Fields(digest)[0], rendered}, args...)...)
	image, err := e.ignitionImage(ctx, from, in, rendered)
	labtest.NoError(t, err)
	h, err := e.lab.AddHost(ctx, "ignition-1", machine.Spec{Kernel: image.Kernel, Initrd: image.Initrd, Image: image.Disk})
	labtest.NoError(t, err)
	h.Machine().Append = h.KernelArguments(image.Release)
	return ignitionHost{e: e, h: h}
}

func (i ignitionHost) wantJoined(t *testing.T) {
	complete(t, i.h)
	labtest.Equal(t, "world-readable files with the secret", "", labtest.Run(t, i.h, 0, fmt.Sprintf(readable, secret)))
	wantMember(t, i.e, i.h)
	i.e.wantReported(t, i.h)
}

// complete waits until the host reports that it is complete.
func complete(t *testing.T, h *lab.Host) {
	t.Helper()
	labtest.NoError(t, h.WaitComplete(labtest.Within(t, joinTimeout)))
}

// wantMember checks that the host's Node has its own name and address, and that
// the host uses this name.
func wantMember(t *testing.T, e *environment, h *lab.Host) {
	t.Helper()
	labtest.Contains(t, e.calicoctl(t, "get", "node", h.Name, "-o", "yaml"), "ipv4Address: "+h.Address.String()+"/")
	labtest.Equal(t, "host name and node name", h.Name+"\n"+h.Name, labtest.Run(t, h, 0, "hostname; cat /var/lib/calico/nodename"))
}

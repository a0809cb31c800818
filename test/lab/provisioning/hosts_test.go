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

// clouded is a host whose name, address and configuration come from a seed disk.
type clouded struct {
	s *environment
	h *lab.Host
}

func newClouded(t *testing.T, s *environment) clouded {
	t.Helper()
	image, err := s.cloudInitImage(labtest.Context(t))
	labtest.NoError(t, err)
	return s.seeded(t, "cloud-1", machine.Spec{Image: image.Disk})
}

// seeded adds a host with a seed disk.
func (s *environment) seeded(t *testing.T, name string, spec machine.Spec) clouded {
	t.Helper()
	spec.Kernel, spec.Initrd, spec.Append = s.lab.Image.Kernel, s.lab.Image.Initrd, golden.KernelArguments
	spec.Drives = []machine.Drive{{Path: filepath.Join(s.lab.Dir, name+"-seed.iso"), ReadOnly: true}}
	h, err := s.lab.AddHost(labtest.Context(t), name, spec)
	labtest.NoError(t, err)
	c := clouded{s: s, h: h}
	c.seed(t)
	return c
}

// networkConfig is cloud-init's, version 2.
const networkConfig = `version: 2
ethernets:
  eth0:
    match: {macaddress: "%s"}
    addresses: [%s/%d]
    gateway4: %s
`

// seed makes the host's seed disk; args are for render.
func (c clouded) seed(t *testing.T, args ...string) {
	t.Helper()
	m, w := c.h.Machine(), c.s.lab.Net
	network := filepath.Join(t.TempDir(), "network.yaml")
	text := fmt.Sprintf(networkConfig, m.MAC, c.h.Address, w.Prefix.Bits(), w.Gateway())
	labtest.NoError(t, os.WriteFile(network, []byte(text), 0o644))
	c.s.firstboot(t, append([]string{"render", "cloud-init", "--config", c.s.config, "--format", "iso", "--hostname", c.h.Name,
		"--network-config", network, m.Drives[0].Path}, args...)...)
}

// joins waits for both, cloud-init and the host's membership, and looks at what
// cloud-init says of it.
func (c clouded) joins(t *testing.T) {
	h := c.h
	labtest.NoError(t, h.WaitUp(labtest.Within(t, joinTime)))
	labtest.Run(t, h, 0, "cloud-init status --wait")
	complete(t, h)
	labtest.Contains(t, labtest.Run(t, h, 0, "cloud-init status --long"), "status: done", "NoCloud")
	labtest.Equal(t, "what cloud-init warns of", "", labtest.Run(t, h, 0, "grep -e WARNING -e ERROR -e Traceback /var/log/cloud-init.log; true"))
	labtest.NotContains(t, labtest.Run(t, h, 0, "journalctl --no-pager -b"), secret, "ordering cycle")
	labtest.Equal(t, "what all can read of the secret", "", labtest.Run(t, h, 0, fmt.Sprintf(readable, secret)))
	labtest.Contains(t, labtest.Run(t, h, 0, "cat /var/lib/cloud/instance/cloud-config.txt"), secret) // it could have been read
	member(t, c.s, h)
	c.s.reported(t, h)
}

// readable lists files that hold a text and that all can get at and read, of
// those that are not the image's.
const readable = `find /etc /var /run /tmp /root /home -xdev -type f -perm /004 -not -path '/var/lib/docker/overlay2/*' -exec grep -ls -e %q {} + | while read -r f; do
d=$f; hidden=; while [ "$d" != / ]; do d=$(dirname "$d"); [ "$(stat -c %%A "$d" | cut -c 10)" = x ] || hidden=1; done; [ -n "$hidden" ] || echo "$f"; done; true`

// ignited is a host to whose disk Ignition applied a config.
type ignited struct {
	s *environment
	h *lab.Host
}

func newIgnited(t *testing.T, s *environment) ignited {
	t.Helper()
	ctx := labtest.Context(t)
	sum, err := run(ctx, "sha256sum", s.lab.Firstboot)
	labtest.NoError(t, err)
	config := filepath.Join(s.lab.Dir, "host.ign")
	s.firstboot(t, "render", "ignition", "--config", s.config, "--install", s.url+"/firstboot", "--sha256", strings.Fields(sum)[0], config)
	image, err := s.ignitionImage(ctx, config)
	labtest.NoError(t, err)
	h, err := s.lab.AddHost(ctx, "ignition-1", machine.Spec{Kernel: image.Kernel, Initrd: image.Initrd, Image: image.Disk})
	labtest.NoError(t, err)
	h.Machine().Append = h.KernelArguments()
	return ignited{s: s, h: h}
}

func (i ignited) joins(t *testing.T) {
	complete(t, i.h)
	labtest.Equal(t, "what all can read of the secret", "", labtest.Run(t, i.h, 0, fmt.Sprintf(readable, secret)))
	member(t, i.s, i.h)
	i.s.reported(t, i.h)
}

// complete waits until the host says that it is a member.
func complete(t *testing.T, h *lab.Host) {
	t.Helper()
	labtest.NoError(t, h.WaitComplete(labtest.Within(t, joinTime)))
}

// member wants the cluster to know the host by its own name and address, and
// the host to be named so.
func member(t *testing.T, s *environment, h *lab.Host) {
	t.Helper()
	labtest.Contains(t, s.calicoctl(t, "get", "node", h.Name, "-o", "yaml"), "ipv4Address: "+h.Address.String()+"/")
	labtest.Equal(t, "the host's names", h.Name+"\n"+h.Name, labtest.Run(t, h, 0, "hostname; cat /var/lib/calico/nodename"))
}

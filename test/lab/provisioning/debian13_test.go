//go:build lab

package provisioning

import (
	"fmt"
	"testing"

	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// TestCloudInitOnDebian13 boots a Debian 13 host with its cloud-init, which checks
// user-data against a schema. firstboot does not run.
func TestCloudInitOnDebian13(t *testing.T) {
	e := newEnvironment(t, golden.Debian13)
	c := newCloudInitHost(t, e, golden.Debian13, "--write-files")
	h := c.h
	h.Machine().Append += " systemd.mask=firstboot.service"
	labtest.NoError(t, h.Boot(labtest.Context(t)))
	labtest.NoError(t, h.WaitUp(labtest.Within(t, joinTimeout)))
	labtest.Step(t, "cloud-init 25.1 is done without a warning", func(t *testing.T) {
		labtest.Contains(t, labtest.Run(t, h, 0, "cloud-init status --wait --long"), "status: done", "NoCloud", "errors: []", "recoverable_errors: {}")
		labtest.Contains(t, labtest.Run(t, h, 0, "cloud-init --version"), "25.1")
		labtest.Equal(t, "warnings and errors of cloud-init", "", labtest.Run(t, h, 0, "grep -e WARNING -e ERROR -e Traceback -e DEPRECATED /var/log/cloud-init.log; true"))
	})
	labtest.Step(t, "the host has its name, its address and the configuration", func(t *testing.T) {
		labtest.Equal(t, "host name", h.Name+"\n", labtest.Run(t, h, 0, "hostname"))
		labtest.Contains(t, labtest.Run(t, h, 0, "ip -4 -o addr show eth0"), h.Address.String()+"/24")
		labtest.Contains(t, labtest.Run(t, h, 0, "ip -4 route show default"), "via "+e.lab.Net.Gateway().String())
		labtest.Contains(t, labtest.Run(t, h, 0, "firstboot config"), e.lab.Etcd.Endpoint, "/etc/firstboot/config.yaml")
		labtest.Equal(t, "mode of the configuration", "600\n", labtest.Run(t, h, 0, "stat -c %a /etc/firstboot/config.yaml"))
		labtest.Run(t, h, 0, "grep -q "+secret+" /etc/firstboot/config.yaml")
		labtest.Equal(t, "world-readable files with the secret", "", labtest.Run(t, h, 0, fmt.Sprintf(readable, secret)))
	})
}

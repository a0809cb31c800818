//go:build lab

package provisioning

import (
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// TestProvisioningMethods boots one host with cloud-init and one with Ignition.
// When both have joined, it boots two clones of the cloud-init host, and a machine
// with an empty disk from the network.
func TestProvisioningMethods(t *testing.T) {
	start := time.Now()
	e := newEnvironment(t, golden.Debian12)
	cloudInit, ignition := newCloudInitHost(t, e, golden.Debian12), newIgnitionHost(t, e)
	net := newNetboot(t, e)
	t.Logf("prepared in %s", time.Since(start).Round(time.Second))
	start = time.Now()
	labtest.NoError(t, e.lab.Each(func(h *lab.Host) error {
		if h == net.h {
			return nil
		}
		return h.Boot(labtest.Context(t))
	}))
	labtest.Step(t, "cloud-init and Ignition: both hosts join", func(t *testing.T) {
		t.Run("cloud-init", func(t *testing.T) { t.Parallel(); cloudInit.wantJoined(t) })
		t.Run("Ignition", func(t *testing.T) { t.Parallel(); ignition.wantJoined(t) })
	})
	labtest.Step(t, "golden image by PXE, and clones of the cloud-init host", func(t *testing.T) {
		labtest.NoError(t, net.h.Boot(labtest.Context(t)))
		t.Run("golden image", func(t *testing.T) {
			t.Parallel()
			labtest.Step(t, "the live system writes the disk", net.wantInstalled)
			labtest.Step(t, "the installed system joins and reports completion", net.wantJoined)
		})
		t.Run("clones", func(t *testing.T) {
			t.Parallel()
			c := newClones(t, cloudInit)
			labtest.Step(t, "both detect the foreign marker and join under their own names", c.join)
			labtest.Step(t, "a new network interface and a new instance-id change nothing", c.replaceInterface)
			labtest.Step(t, "containers on a clone and on the Ignition host reach each other", func(t *testing.T) { c.reachEachOther(t, ignition.h) })
		})
	})
	t.Logf("all provisioning methods took %s (%s)", time.Since(start).Round(time.Second), e.lab.Accel)
}

//go:build lab

package provisioning

import (
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// TestProvisioningMethods: two hosts join at once, one by cloud-init, one by
// Ignition. Then the first is captured and booted as two others, and meanwhile
// one with an empty disk comes from the network.
func TestProvisioningMethods(t *testing.T) {
	began := time.Now()
	s := newEnvironment(t)
	clouded, ignited := newClouded(t, s), newIgnited(t, s)
	net := newNetboot(t, s)
	t.Logf("prepared in %s", time.Since(began).Round(time.Second))
	began = time.Now()
	labtest.NoError(t, s.lab.Each(func(h *lab.Host) error {
		if h == net.h {
			return nil
		}
		return h.Boot(labtest.Context(t))
	}))
	labtest.Step(t, "cloud-init and Ignition: both hosts join", func(t *testing.T) {
		t.Run("cloud-init", func(t *testing.T) { t.Parallel(); clouded.joins(t) })
		t.Run("Ignition", func(t *testing.T) { t.Parallel(); ignited.joins(t) })
	})
	labtest.Step(t, "golden image by PXE, and clones of the host of cloud-init", func(t *testing.T) {
		labtest.NoError(t, net.h.Boot(labtest.Context(t)))
		t.Run("golden image", func(t *testing.T) {
			t.Parallel()
			labtest.Step(t, "the netboot writes the disk", net.installs)
			labtest.Step(t, "the disk's system joins, and says so", net.joins)
		})
		t.Run("clones", func(t *testing.T) {
			t.Parallel()
			c := newClones(t, clouded)
			labtest.Step(t, "both notice, and join under their own names", c.join)
			labtest.Step(t, "another card and a new instance change nothing", c.swap)
			labtest.Step(t, "containers of a clone and of the host of Ignition reach each other", func(t *testing.T) { c.reach(t, ignited.h) })
		})
	})
	t.Logf("all ways in %s (%s)", time.Since(began).Round(time.Second), s.lab.Accel)
}

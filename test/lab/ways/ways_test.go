//go:build lab

package ways

import (
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// TestFourWaysIntoOneCluster: two hosts join at once, one by cloud-init, one by
// Ignition. Then the first is captured and booted as two others, and meanwhile
// one with an empty disk comes from the network.
func TestFourWaysIntoOneCluster(t *testing.T) {
	began := time.Now()
	s := newSite(t)
	clouded, ignited := newClouded(t, s), newIgnited(t, s)
	net := newNetboot(t, s)
	t.Logf("prepared in %s", time.Since(began).Round(time.Second))
	began = time.Now()
	labtest.Must(t, s.l.Each(func(h *lab.Host) error {
		if h == net.h {
			return nil
		}
		return h.Boot(labtest.Context(t))
	}))
	labtest.Tell(t, "cloud-init and Ignition: both hosts join", func(t *testing.T) {
		t.Run("cloud-init", func(t *testing.T) { t.Parallel(); clouded.joins(t) })
		t.Run("Ignition", func(t *testing.T) { t.Parallel(); ignited.joins(t) })
	})
	labtest.Tell(t, "golden image by PXE, and clones of the host of cloud-init", func(t *testing.T) {
		labtest.Must(t, net.h.Boot(labtest.Context(t)))
		t.Run("golden image", func(t *testing.T) {
			t.Parallel()
			labtest.Tell(t, "the netboot writes the disk", net.installs)
			labtest.Tell(t, "the disk's system joins, and says so", net.joins)
		})
		t.Run("clones", func(t *testing.T) {
			t.Parallel()
			c := newClones(t, clouded)
			labtest.Tell(t, "both notice, and join under their own names", c.join)
			labtest.Tell(t, "another card and a new instance change nothing", c.swap)
			labtest.Tell(t, "containers of a clone and of the host of Ignition reach each other", func(t *testing.T) { c.reach(t, ignited.h) })
		})
	})
	t.Logf("all ways in %s (%s)", time.Since(began).Round(time.Second), s.l.Accel)
}

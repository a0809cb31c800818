//go:build lab

package provisioning

import (
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// TestProvisioningMethods makes one cluster of hosts with all provisioning methods.
// The hosts of Ignition and of a golden image, which is installed by PXE, have Debian
// 12 and share a global network. The host of cloud-init and its two clones have Debian
// 13 and local networks, and join the pool of the others.
func TestProvisioningMethods(t *testing.T) {
	start := time.Now()
	e := newEnvironment(t)
	cloudInit, ignition := newCloudInitHost(t, e), newIgnitionHost(t, e)
	net := newNetboot(t, e)
	t.Logf("prepared in %s", time.Since(start).Round(time.Second))
	start = time.Now()
	cuts := &powerCuts{e: e, global: ignition.h}
	labtest.NoError(t, ignition.h.Boot(labtest.Context(t)))
	labtest.NoError(t, net.h.Boot(labtest.Context(t)))
	labtest.Step(t, "golden image by PXE, Ignition, cloud-init and clones: one cluster", func(t *testing.T) {
		t.Run("golden image", func(t *testing.T) {
			t.Parallel()
			labtest.Step(t, "the live system writes the disk", net.wantInstalled)
			labtest.Step(t, "the installed system joins and reports completion", net.wantJoined)
		})
		t.Run("others", func(t *testing.T) {
			t.Parallel()
			labtest.Step(t, "Ignition: a host with a global network joins", ignition.wantJoined)
			labtest.NoError(t, cloudInit.h.Boot(labtest.Context(t)))
			labtest.Step(t, "cloud-init: a Debian 13 host with a local network and TLS joins the same pool", cloudInit.wantJoined)
			labtest.Step(t, "it has AppArmor, cgroup v2 and IPv6, and its Docker no cluster-store", func(t *testing.T) {
				wantDebian13(t, cloudInit.h)
				wantPoolOfGlobalNetwork(t, cloudInit.h)
			})
			c := newClones(t, cloudInit)
			labtest.Step(t, "both clones detect the foreign marker and join under their own names", c.join)
			cuts.local = c.both[0].h
			labtest.Step(t, "containers of a local and of the global network reach each other", cuts.reachEachOther)
			labtest.Step(t, "a reboot with a new network interface and a new instance-id changes nothing", c.replaceInterface)
			labtest.Step(t, "its containers run again", cuts.wantContainers)
		})
	})
	labtest.NoError(t, net.h.Kill()) // two busy machines less
	labtest.Step(t, "a Debian 13 host loses power and etcd starts late: its containers run again", cuts.withoutEtcd)
	t.Logf("all provisioning methods took %s (%s)", time.Since(start).Round(time.Second), e.lab.Accel)
}

//go:build lab

package stories

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// leaves is host 1's: with a container on the network it is refused, without
// one it takes the host out, and the other host stays what it is.
func leaves(t *testing.T, l *lab.Lab) {
	one, two := l.Hosts[0], l.Hosts[1]
	nodes := calicoctl(t, l, "", "get", "nodes")
	blocks := affinities(t, l, one)
	if blocks == "" {
		t.Fatal("host1 has no block of addresses to give back")
	}

	plan := labtest.Do(t, one, 6, "firstboot leave --plan")
	t.Logf("%s", plan)
	labtest.Says(t, plan, "always-one", "calico-node", "node host1", "eru-minions")
	said := labtest.Do(t, one, 4, "firstboot leave")
	t.Logf("%s", said)
	labtest.Says(t, said, "container always-one", "nothing was changed", "docker rm -f")
	labtest.Same(t, "the cluster's nodes", nodes, calicoctl(t, l, "", "get", "nodes"))
	labtest.Do(t, one, 0, "systemctl is-active calico-node eru-minions")

	labtest.Do(t, one, 0, "docker rm -f always-one")
	said = labtest.Do(t, one, 0, "firstboot leave")
	t.Logf("%s", said)
	labtest.Says(t, said, "this host has left the network")
	left := calicoctl(t, l, "", "get", "nodes")
	labtest.Silent(t, left, "host1")
	labtest.Says(t, left, "host2")
	if blocks := affinities(t, l, one); blocks != "" {
		t.Errorf("host1 still holds addresses:\n%s", blocks)
	}
	outside(t, one)
	labtest.Do(t, two, 0, "firstboot status")
}

// affinities are the blocks of addresses that the host holds.
func affinities(t *testing.T, l *lab.Lab, h *lab.Host) string {
	t.Helper()
	const folder = "/calico/ipam/v2/host/"
	return etcdKeys(t, l, folder+h.Name+"/")
}

// outside wants a host that has left, and says so.
func outside(t *testing.T, h *lab.Host) {
	t.Helper()
	said := labtest.Do(t, h, 8, "firstboot status")
	t.Logf("%s", said)
	labtest.Says(t, said, "not-started", "this host has left the network", "firstboot.service is not enabled", "systemctl enable --now firstboot.service firstboot-complete.target")
	units := labtest.Do(t, h, 1, "systemctl is-enabled firstboot calico-node eru-minions 2>&1")
	labtest.Silent(t, units, "enabled")
	labtest.Do(t, h, 3, "systemctl is-active calico-node eru-minions")
	// Docker itself goes on.
	labtest.Do(t, h, 0, "docker ps")
}

func staysOut(t *testing.T, l *lab.Lab) {
	h := l.Hosts[0]
	ctx := labtest.Within(t, joinTime)
	labtest.Must(t, h.Reboot(ctx))
	labtest.Must(t, h.Wait(ctx, "the end of the boot", func(ctx context.Context) error {
		r, err := h.Run(ctx, "systemctl is-system-running")
		state := strings.TrimSpace(r.Stdout)
		if err == nil && state != "running" && state != "degraded" {
			err = fmt.Errorf("it is %s", state)
		}
		return err
	}))
	outside(t, h)
	labtest.Silent(t, calicoctl(t, l, "", "get", "nodes"), "host1")
}

// unitActive asks whether a unit is active.
func unitActive(h *lab.Host, unit string) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := h.Run(ctx, "systemctl is-active "+unit)
		if err == nil && r.Code != 0 {
			err = errors.New(unit + " is " + strings.TrimSpace(r.Stdout))
		}
		return err
	}
}

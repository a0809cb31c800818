//go:build lab

package scenarios

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

	plan := labtest.Run(t, one, 6, "firstboot leave --plan")
	t.Logf("%s", plan)
	labtest.Contains(t, plan, "always-one", "calico-node", "node host1", "eru-minions")
	said := labtest.Run(t, one, 4, "firstboot leave")
	t.Logf("%s", said)
	labtest.Contains(t, said, "container always-one", "nothing was changed", "docker rm -f")
	labtest.Equal(t, "the cluster's nodes", nodes, calicoctl(t, l, "", "get", "nodes"))
	labtest.Run(t, one, 0, "systemctl is-active calico-node eru-minions")

	labtest.Run(t, one, 0, "docker rm -f always-one")
	said = labtest.Run(t, one, 0, "firstboot leave")
	t.Logf("%s", said)
	labtest.Contains(t, said, "this host has left the network")
	left := calicoctl(t, l, "", "get", "nodes")
	labtest.NotContains(t, left, "host1")
	labtest.Contains(t, left, "host2")
	if blocks := affinities(t, l, one); blocks != "" {
		t.Errorf("host1 still holds addresses:\n%s", blocks)
	}
	outside(t, one)
	labtest.Run(t, two, 0, "firstboot status")
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
	said := labtest.Run(t, h, 8, "firstboot status")
	t.Logf("%s", said)
	labtest.Contains(t, said, "not-started", "this host has left the network", "firstboot.service is not enabled", "systemctl enable --now firstboot.service firstboot-complete.target")
	units := labtest.Run(t, h, 1, "systemctl is-enabled firstboot calico-node eru-minions 2>&1")
	labtest.NotContains(t, units, "enabled")
	labtest.Run(t, h, 3, "systemctl is-active calico-node eru-minions")
	// Docker itself goes on.
	labtest.Run(t, h, 0, "docker ps")
}

func staysOut(t *testing.T, l *lab.Lab) {
	h := l.Hosts[0]
	ctx := labtest.Within(t, joinTime)
	labtest.NoError(t, h.Reboot(ctx))
	labtest.NoError(t, h.Wait(ctx, "the end of the boot", func(ctx context.Context) error {
		r, err := h.Run(ctx, "systemctl is-system-running")
		state := strings.TrimSpace(r.Stdout)
		if err == nil && state != "running" && state != "degraded" {
			err = fmt.Errorf("it is %s", state)
		}
		return err
	}))
	outside(t, h)
	labtest.NotContains(t, calicoctl(t, l, "", "get", "nodes"), "host1")
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

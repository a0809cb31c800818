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

// leave makes host 1 leave. This is refused while a container uses the network. The
// other host is not affected.
func leave(t *testing.T, l *lab.Lab) {
	one, two := l.Hosts[0], l.Hosts[1]
	nodes := calicoctl(t, l, "", "get", "nodes")
	blocks := affinities(t, l, one)
	if blocks == "" {
		t.Fatal("host1 has no address block that it could release")
	}

	refuseWithoutConsent(t, one)

	plan := labtest.Run(t, one, 6, "firstboot leave --plan")
	t.Logf("%s", plan)
	labtest.Contains(t, plan, "always-one", "calico-node", "node host1", "eru-minions")
	output := labtest.Run(t, one, 4, "firstboot leave --yes")
	t.Logf("%s", output)
	labtest.Contains(t, output, "container always-one", "nothing was changed", "docker rm -f")
	labtest.Equal(t, "the cluster's nodes", nodes, calicoctl(t, l, "", "get", "nodes"))
	labtest.Run(t, one, 0, "systemctl is-active calico-node eru-minions")

	labtest.Run(t, one, 0, "docker rm -f always-one")
	output = labtest.Run(t, one, 0, "firstboot leave --yes")
	t.Logf("%s", output)
	labtest.Contains(t, output, "this host has left the network")
	left := calicoctl(t, l, "", "get", "nodes")
	labtest.NotContains(t, left, "host1")
	labtest.Contains(t, left, "host2")
	if blocks := affinities(t, l, one); blocks != "" {
		t.Errorf("host1 still has address blocks:\n%s", blocks)
	}
	wantLeft(t, one)
	labtest.Run(t, two, 0, "firstboot status")
}

// refuseWithoutConsent runs what cannot be undone without consent. A command over
// SSH has no terminal, so that it cannot prompt.
func refuseWithoutConsent(t *testing.T, h *lab.Host) {
	t.Helper()
	before := labtest.Run(t, h, 0, stateFiles)
	for _, command := range []string{"leave", "seal", "seal --yes", "seal --this-machine"} {
		labtest.Run(t, h, 2, "firstboot "+command)
	}
	labtest.Equal(t, "the state after refused commands", before, labtest.Run(t, h, 0, stateFiles+"; test -s /etc/machine-id"))
}

// affinities returns the address blocks of the host.
func affinities(t *testing.T, l *lab.Lab, h *lab.Host) string {
	t.Helper()
	const prefix = "/calico/ipam/v2/host/"
	return etcdKeys(t, l, prefix+h.Name+"/")
}

// wantLeft checks that the host has left and that status reports it.
func wantLeft(t *testing.T, h *lab.Host) {
	t.Helper()
	output := labtest.Run(t, h, 12, "firstboot status")
	t.Logf("%s", output)
	labtest.Contains(t, output, "left: this host has left the network", "firstboot.service is not enabled", "systemctl enable --now firstboot.service firstboot-complete.target")
	units := labtest.Run(t, h, 1, "systemctl is-enabled firstboot calico-node eru-minions 2>&1")
	labtest.NotContains(t, units, "enabled")
	labtest.Run(t, h, 3, "systemctl is-active calico-node eru-minions")
	// Docker itself continues to run.
	labtest.Run(t, h, 0, "docker ps")
}

func doesNotJoinAgain(t *testing.T, l *lab.Lab) {
	h := l.Hosts[0]
	ctx := labtest.Within(t, joinTimeout)
	labtest.NoError(t, h.Reboot(ctx))
	labtest.NoError(t, h.Wait(ctx, "the end of the boot", func(ctx context.Context) error {
		r, err := h.Run(ctx, "systemctl is-system-running")
		state := strings.TrimSpace(r.Stdout)
		if err == nil && state != "running" && state != "degraded" {
			err = fmt.Errorf("the system is %s", state)
		}
		return err
	}))
	wantLeft(t, h)
	labtest.NotContains(t, calicoctl(t, l, "", "get", "nodes"), "host1")
}

// unitActive returns a check for Host.Wait that the unit is active.
func unitActive(h *lab.Host, unit string) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := h.Run(ctx, "systemctl is-active "+unit)
		if err == nil && r.Code != 0 {
			err = errors.New(unit + " is " + strings.TrimSpace(r.Stdout))
		}
		return err
	}
}

//go:build lab

package provisioning

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

// clones are machines with the disk of a host that was complete.
type clones struct {
	s        *environment
	original clouded
	node     string // the original's Node, as it was
	both     [2]clouded
}

// newClones powers the host off, and captures its disk.
func newClones(t *testing.T, original clouded) *clones {
	t.Helper()
	c := &clones{s: original.s, original: original}
	c.node = c.originalNode(t)
	labtest.NoError(t, original.h.PowerOff(labtest.Within(t, 5*time.Minute)))
	for i, name := range []string{"clone-1", "clone-2"} {
		c.both[i] = c.s.seeded(t, name, machine.Spec{Image: original.h.Machine().Disk(), Format: "qcow2"})
	}
	return c
}

func (c *clones) originalNode(t *testing.T) string {
	return c.s.calicoctl(t, "get", "node", c.original.h.Name, "-o", "yaml")
}

// join: both at once, each under its own name.
func (c *clones) join(t *testing.T) {
	var all sync.WaitGroup
	for _, clone := range c.both {
		labtest.NoError(t, clone.h.Boot(labtest.Context(t)))
		all.Go(func() { c.notices(t, clone) })
	}
	all.Wait()
	labtest.Equal(t, "the original's Node", c.node, c.originalNode(t))
}

// notices: it is told on the console and by status while the run goes on.
func (c *clones) notices(t *testing.T, clone clouded) {
	h := clone.h
	ctx := labtest.Within(t, joinTime)
	line, err := h.WaitConsole(ctx, "belongs to another machine")
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("%s: %s", h.Name, line)
	if err := h.WaitUp(ctx); err != nil {
		t.Error(err)
		return
	}
	r, err := h.Run(ctx, "firstboot status")
	if err != nil || r.Code != 7 {
		t.Errorf("%s: status ended with %d (%v), want 7:\n%s%s", h.Name, r.Code, err, r.Stdout, r.Stderr)
	}
	labtest.Contains(t, r.Stdout, "running", "the state of another machine was found here and set aside in /var/lib/firstboot/foreign/")
	if err := h.WaitComplete(ctx); err != nil {
		t.Error(err)
		return
	}
	r, err = h.Run(ctx, "hostname; cat /var/lib/calico/nodename; echo; ls /var/lib/firstboot/foreign/*")
	if err != nil {
		t.Error(err)
	}
	labtest.Contains(t, r.Stdout, h.Name+"\n"+h.Name+"\n", "complete.json", "journal.json")
	labtest.NotContains(t, r.Stdout, c.original.h.Name)
}

// notes are what firstboot keeps of a complete host, with times and contents.
const notes = "cd /var/lib/firstboot && stat -c '%n %Y %Z %s' *.json && sha256sum *.json"

// swap: a new card, so another MAC, and a seed with a new instance-id.
func (c *clones) swap(t *testing.T) {
	clone := c.both[0]
	h := clone.h
	for _, b := range c.both {
		member(t, c.s, b.h)
		c.s.reported(t, b.h)
	}
	before, instance := labtest.Run(t, h, 0, notes), labtest.Run(t, h, 0, "readlink /var/lib/cloud/instance")
	labtest.NoError(t, h.PowerOff(labtest.Within(t, 5*time.Minute)))
	h.Machine().MAC = "52:54:00:fb:01:01"
	clone.seed(t, "--instance-id", "iid-after-the-swap")
	h.ForgetKey() // cloud-init makes a new one for a new instance
	labtest.NoError(t, h.Boot(labtest.Context(t)))
	labtest.NoError(t, h.WaitUp(labtest.Within(t, joinTime)))
	labtest.Run(t, h, 0, "cloud-init status --wait")
	labtest.NoError(t, h.Wait(labtest.Within(t, 5*time.Minute), "the target", targetReached(h)))
	labtest.Contains(t, labtest.Run(t, h, 0, "journalctl --no-pager -b -u firstboot -o cat"), "complete (not re-checked)")
	labtest.Equal(t, "what firstboot keeps", before, labtest.Run(t, h, 0, notes))
	if now := labtest.Run(t, h, 0, "readlink /var/lib/cloud/instance"); now == instance {
		t.Errorf("the instance is still %s", now)
	}
	labtest.Contains(t, labtest.Run(t, h, 0, "cat /sys/class/net/eth0/address"), h.Machine().MAC)
}

// reach: containers of a clone and of a host that came by another way.
func (c *clones) reach(t *testing.T, other *lab.Host) {
	ctx := labtest.Within(t, 10*time.Minute)
	mine, err := c.both[1].h.StartContainer(ctx, "ways-clone")
	labtest.NoError(t, err)
	theirs, err := other.StartContainer(ctx, "ways-other")
	labtest.NoError(t, err)
	for _, way := range [][2]lab.Container{{mine, theirs}, {theirs, mine}} {
		summary, err := way[0].Ping(ctx, way[1].Address)
		labtest.NoError(t, err)
		t.Logf("%s -> %s: %s", way[0].Host.Name, way[1].Host.Name, summary)
	}
}

func targetReached(h *lab.Host) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := h.Output(ctx, "systemctl is-active firstboot-complete.target")
		return err
	}
}

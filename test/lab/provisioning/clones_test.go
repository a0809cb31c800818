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

// clones are machines with the disk of a complete host.
type clones struct {
	e        *environment
	original cloudInitHost
	node     string // the original's Node before the clones were booted
	both     [2]cloudInitHost
}

// newClones powers the host off, and creates two machines with its disk.
func newClones(t *testing.T, original cloudInitHost) *clones {
	t.Helper()
	c := &clones{e: original.e, original: original}
	c.node = c.originalNode(t)
	labtest.NoError(t, original.h.PowerOff(labtest.Within(t, 5*time.Minute)))
	for i, name := range []string{"clone-1", "clone-2"} {
		c.both[i] = c.e.addSeededHost(t, name, original.image, machine.Spec{Image: original.h.Machine().Disk(), Format: "qcow2"})
	}
	return c
}

func (c *clones) originalNode(t *testing.T) string {
	return c.e.calicoctl(t, "get", "node", c.original.h.Name, "-o", "yaml")
}

// join boots both clones at the same time. Each joins under its own name.
func (c *clones) join(t *testing.T) {
	var all sync.WaitGroup
	for _, clone := range c.both {
		labtest.NoError(t, clone.h.Boot(labtest.Context(t)))
		all.Go(func() { c.wantJoined(t, clone) })
	}
	all.Wait()
	labtest.Equal(t, "the original's Node", c.node, c.originalNode(t))
}

// wantJoined checks that the console and status report the foreign marker during
// the run, and that the clone joins.
func (c *clones) wantJoined(t *testing.T, clone cloudInitHost) {
	h := clone.h
	ctx := labtest.Within(t, joinTimeout)
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
		t.Errorf("%s: status exited with %d (%v), want 7:\n%s%s", h.Name, r.Code, err, r.Stdout, r.Stderr)
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

// stateFiles prints the times and digests of firstboot's state files.
const stateFiles = "cd /var/lib/firstboot && stat -c '%n %Y %Z %s' *.json && sha256sum *.json"

// replaceInterface boots a clone with another MAC address and a new instance-id.
func (c *clones) replaceInterface(t *testing.T) {
	clone := c.both[0]
	h := clone.h
	for _, b := range c.both {
		wantMember(t, c.e, b.h)
		c.e.wantReported(t, b.h)
	}
	before, instance := labtest.Run(t, h, 0, stateFiles), labtest.Run(t, h, 0, "readlink /var/lib/cloud/instance")
	labtest.NoError(t, h.PowerOff(labtest.Within(t, 5*time.Minute)))
	h.Machine().MAC = "52:54:00:fb:01:01"
	clone.seed(t, "--instance-id", "iid-new-interface")
	h.ForgetKey() // cloud-init generates a new one for a new instance
	labtest.NoError(t, h.Boot(labtest.Context(t)))
	labtest.NoError(t, h.WaitUp(labtest.Within(t, joinTimeout)))
	labtest.Run(t, h, 0, "cloud-init status --wait")
	labtest.NoError(t, h.Wait(labtest.Within(t, 5*time.Minute), "firstboot-complete.target", targetReached(h)))
	labtest.Contains(t, labtest.Run(t, h, 0, "journalctl --no-pager -b -u firstboot -o cat"), "complete (not re-checked)")
	labtest.Equal(t, "firstboot's state files", before, labtest.Run(t, h, 0, stateFiles))
	if current := labtest.Run(t, h, 0, "readlink /var/lib/cloud/instance"); current == instance {
		t.Errorf("the cloud-init instance is still %s", current)
	}
	labtest.Contains(t, labtest.Run(t, h, 0, "cat /sys/class/net/eth0/address"), h.Machine().MAC)
}

func targetReached(h *lab.Host) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := h.Output(ctx, "systemctl is-active firstboot-complete.target")
		return err
	}
}

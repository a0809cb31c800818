//go:build lab

package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// TestPower tests the lab itself: a power cut, the reset button, a reboot and a
// shutdown.
func TestPower(t *testing.T) {
	l := labtest.New(t, lab.Options{Hosts: 1, Append: "systemd.mask=firstboot.service systemd.mask=docker.service systemd.mask=docker.socket systemd.mask=containerd.service"})
	ctx := labtest.Within(t, 15*time.Minute)
	h := l.Hosts[0]
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	wantFiles := func(want string) {
		t.Helper()
		out, err := h.Output(ctx, "cd /root && ls -d file-* 2>/dev/null | xargs")
		must(err)
		if strings.TrimSpace(out) != want {
			t.Fatalf("the disk has %q, want %q", strings.TrimSpace(out), want)
		}
	}
	must(h.Boot(ctx))
	must(h.WaitUp(ctx))
	if out, err := h.Output(ctx, "hostname; ip -4 -o addr show eth0; ip route show default; cat /sys/class/dmi/id/product_uuid"); err != nil ||
		!strings.HasPrefix(out, h.Name+"\n") || !strings.Contains(out, h.Address.String()+"/24") || !strings.Contains(out, "default via 10.123.0.1 dev eth0") {
		t.Errorf("wrong host name, address or route: %s (%v)", out, err)
	}

	_, err := h.Output(ctx, "touch /root/file-synced && sync && echo x >/root/file-lost")
	must(err)
	must(h.Kill())
	must(h.Boot(ctx))
	must(h.WaitUp(ctx))
	wantFiles("file-synced") // data that was not flushed is lost, as in a real power cut

	_, err = h.Output(ctx, "touch /root/file-two")
	must(err)
	must(h.Reboot(ctx))
	wantFiles("file-synced file-two")

	_, err = h.Output(ctx, "touch /root/file-three && sync")
	must(err)
	must(h.Reset(ctx))
	wantFiles("file-synced file-three file-two")

	must(h.PowerOff(ctx))
	must(h.Boot(ctx))
	must(h.WaitUp(ctx))
	wantFiles("file-synced file-three file-two")
	r, err := h.Run(ctx, "echo out; echo err >&2; exit 3")
	must(err)
	if r != (lab.Result{Stdout: "out\n", Stderr: "err\n", Code: 3}) {
		t.Errorf("the result of a command is %+v", r)
	}
}

//go:build lab

package scenarios

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

const (
	// maxPeakKB is the maximum memory of a run: 64 MB.
	maxPeakKB = 64 << 10
	// maxSecondRun is the maximum duration of a run on a complete host, in seconds.
	maxSecondRun = 2
)

// pair is two containers, one on each host. Docker restarts the one on host 1.
type pair struct{ one, two lab.Container }

func (p *pair) reachEachOther(t *testing.T, l *lab.Lab) {
	ctx := labtest.Within(t, 10*time.Minute)
	var err error
	p.one, err = l.Hosts[0].StartContainer(ctx, "always-one", "--restart=always")
	labtest.NoError(t, err)
	p.two, err = l.Hosts[1].StartContainer(ctx, "two")
	labtest.NoError(t, err)
	runOnAll(t, l, 0, "ip route show proto bird", " via ")
	for from, to := range map[lab.Container]lab.Container{p.one: p.two, p.two: p.one} {
		summary, err := from.Ping(ctx, to.Address)
		labtest.NoError(t, err)
		t.Logf("%s -> %s: %s", from.Name, to.Name, summary)
	}
}

// wantOnePool checks that both hosts see the same pool and the same network.
func wantOnePool(t *testing.T, l *lab.Lab) {
	ctx := labtest.Within(t, 5*time.Minute)
	seen := map[string]bool{}
	for _, h := range l.Hosts {
		out, err := h.Output(ctx, "calicoctl get ippools -o wide --no-headers 2>/dev/null || calicoctl get ippools; docker network ls --no-trunc -q --filter driver=calico")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(out, lab.PoolCIDR) != 1 {
			t.Errorf("%s does not see exactly one pool with the CIDR %s:\n%s", h.Name, lab.PoolCIDR, out)
		}
		seen[out] = true
	}
	if len(seen) != 1 {
		t.Errorf("the hosts see different pools or networks: %v", seen)
	}
}

// watchMemory records the run's peak memory every second until the run ends.
func watchMemory(ctx context.Context, h *lab.Host) error {
	const watch = `pid=$(systemctl show -p MainPID --value firstboot); while grep VmHWM /proc/$pid/status 2>/dev/null; do sleep 1; done`
	_, err := h.Output(ctx, fmt.Sprintf("systemd-run --quiet --unit=watch-memory -p StandardOutput=file:/run/memory sh -c '%s'", strings.ReplaceAll(watch, "$", "$$")))
	return err
}

func peakMemory(t *testing.T, h *lab.Host) {
	t.Helper()
	output := labtest.Run(t, h, 0, "tail -n 1 /run/memory")
	var peak int
	if _, err := fmt.Sscanf(output, "VmHWM: %d kB", &peak); err != nil {
		t.Fatalf("%s: no measurement in %q: %v", h.Name, output, err)
	}
	t.Logf("%s: the run's peak memory was %d kB", h.Name, peak)
	if peak > maxPeakKB {
		t.Errorf("%s: the peak memory was more than %d kB", h.Name, maxPeakKB)
	}
}

// secondRun runs firstboot in an empty network namespace, and checks that it
// changes no files.
func secondRun(t *testing.T, h *lab.Host) {
	ctx := labtest.Within(t, 5*time.Minute)
	const command = `touch /run/before; sleep 0.1
a=$(cut -d' ' -f1 /proc/uptime)
unshare --net firstboot run; code=$?
b=$(cut -d' ' -f1 /proc/uptime)
echo "took $a $b"
find /etc /usr /var/lib/firstboot /var/lib/calico -xdev -newer /run/before
exit $code`
	r, err := h.Run(ctx, command)
	if err != nil || r.Code != 0 {
		t.Fatalf("the second run exited with %d (%v): %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	output, rest, found := strings.Cut(r.Stdout, "took ")
	times, changed, _ := strings.Cut(rest, "\n")
	var from, to float64
	if _, err := fmt.Sscan(times, &from, &to); err != nil || !found {
		t.Fatalf("no times in %q", r.Stdout)
	}
	t.Logf("it took %.2f s and printed: %s%s", to-from, output, r.Stderr)
	if to-from > maxSecondRun {
		t.Errorf("the second run took %.2f s", to-from)
	}
	if !strings.Contains(output+r.Stderr, "complete (not re-checked)") {
		t.Errorf("it did not report that it used the marker: %s%s", output, r.Stderr)
	}
	if changed = strings.TrimSpace(changed); changed != "" {
		t.Errorf("it changed:\n%s", changed)
	}
}

// statusReportsDrift stops calico-node and checks that status reports it.
func statusReportsDrift(t *testing.T, l *lab.Lab) {
	h := l.Hosts[0]
	start := time.Now()
	labtest.Contains(t, labtest.Run(t, h, 0, "firstboot status"), "complete")
	took := time.Since(start)
	labtest.Run(t, h, 0, "systemctl stop calico-node")
	labtest.Contains(t, labtest.Run(t, h, 9, "firstboot status"), "drifted", "node       failed", "calico-node")
	labtest.Run(t, h, 0, "systemctl start calico-node")
	timeout := time.Minute
	if l.Accel == machine.TCG { // calico-node alone needs 70 s to become ready, and status is slow
		timeout = 3*time.Minute + 5*took
	}
	start = time.Now()
	labtest.NoError(t, h.Wait(labtest.Within(t, timeout), "firstboot status to exit with 0", func(ctx context.Context) error {
		_, err := h.Output(ctx, "firstboot status")
		return err
	}))
	t.Logf("complete again %s after the start of calico-node", time.Since(start).Round(time.Second))
}

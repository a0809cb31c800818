//go:build lab

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

const (
	// joinTime bounds the join: two minutes and a half for two machines under
	// TCG on two free cores.
	joinTime = 15 * time.Minute
	// maxPeakKB is what a run may take of a host's memory: 64 MB.
	maxPeakKB = 64 << 10
)

// TestTwoHostsJoinAtOnce is the product's main job: two bare hosts, powered on
// at the same instant, become members of one Calico network by themselves.
func TestTwoHostsJoinAtOnce(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ctx := labtest.Within(t, joinTime)
	start := time.Now()
	if err := l.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Each(func(h *lab.Host) error {
		return errors.Join(h.WaitUp(ctx), watchMemory(ctx, h), h.WaitComplete(ctx))
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("power-on to complete, both hosts: %s (%s)", time.Since(start).Round(time.Second), l.Accel)
	t.Run("containers reach each other both ways", func(t *testing.T) { containersReachEachOther(t, l) })
	t.Run("the pool was made once", func(t *testing.T) { poolMadeOnce(t, l) })
	t.Run("the run's peak memory", func(t *testing.T) { peakMemory(t, l) })
	t.Run("a second run changes nothing, without a network", func(t *testing.T) { secondRun(t, l.Hosts[0]) })
	t.Run("status names what is not true any more", func(t *testing.T) { statusNamesDrift(t, l) })
}

func containersReachEachOther(t *testing.T, l *lab.Lab) {
	ctx := labtest.Within(t, 10*time.Minute)
	containers := make([]lab.Container, len(l.Hosts))
	for i, h := range l.Hosts {
		var err error
		if containers[i], err = h.StartContainer(ctx, "story-"+h.Name); err != nil {
			t.Fatal(err)
		}
		routes, err := h.Output(ctx, "ip route show proto bird")
		if err != nil || !strings.Contains(routes, " via ") {
			t.Errorf("%s learned no route by BGP: %q (%v)", h.Name, routes, err)
		}
	}
	for i, from := range containers {
		to := containers[(i+1)%len(containers)]
		summary, err := from.Ping(ctx, to.Address)
		t.Logf("%s -> %s: %s", from.Name, to.Name, summary)
		if err != nil {
			t.Error(err)
		}
	}
}

// poolMadeOnce looks at the cluster from both hosts: one pool, one network.
func poolMadeOnce(t *testing.T, l *lab.Lab) {
	ctx := labtest.Within(t, 5*time.Minute)
	seen := map[string]bool{}
	for _, h := range l.Hosts {
		out, err := h.Output(ctx, "calicoctl get ippools -o wide --no-headers 2>/dev/null || calicoctl get ippools; docker network ls --no-trunc -q --filter driver=calico")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(out, lab.PoolCIDR) != 1 {
			t.Errorf("%s sees other pools than one of %s:\n%s", h.Name, lab.PoolCIDR, out)
		}
		seen[out] = true
	}
	if len(seen) != 1 {
		t.Errorf("the hosts see different clusters: %v", seen)
	}
}

// watchMemory notes the run's peak memory every second, until the run ends.
func watchMemory(ctx context.Context, h *lab.Host) error {
	const watch = `pid=$(systemctl show -p MainPID --value firstboot); while grep VmHWM /proc/$pid/status 2>/dev/null; do sleep 1; done`
	_, err := h.Output(ctx, fmt.Sprintf("systemd-run --quiet --unit=watch-memory -p StandardOutput=file:/run/memory sh -c '%s'", strings.ReplaceAll(watch, "$", "$$")))
	return err
}

func peakMemory(t *testing.T, l *lab.Lab) {
	for _, h := range l.Hosts {
		out, err := h.Output(labtest.Within(t, time.Minute), "tail -n 1 /run/memory")
		fields := strings.Fields(out)
		if err != nil || len(fields) != 3 {
			t.Fatalf("%s: no measurement: %q (%v)", h.Name, out, err)
		}
		peak, err := strconv.Atoi(fields[1])
		if err != nil || peak > maxPeakKB {
			t.Errorf("%s: the run's peak memory was %s, want at most %d kB", h.Name, strings.TrimSpace(out), maxPeakKB)
		}
		t.Logf("%s: %d kB", h.Name, peak)
	}
}

// secondRun runs firstboot in an empty network namespace, and looks for files
// that it changed.
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
		t.Fatalf("the second run ended with %d (%v): %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	said, rest, found := strings.Cut(r.Stdout, "took ")
	times, changed, _ := strings.Cut(rest, "\n")
	var from, to float64
	if _, err := fmt.Sscan(times, &from, &to); err != nil || !found {
		t.Fatalf("no times in %q", r.Stdout)
	}
	t.Logf("it took %.2f s and said: %s%s", to-from, said, r.Stderr)
	if to-from > 2 {
		t.Errorf("the second run took %.2f s", to-from)
	}
	if !strings.Contains(said+r.Stderr, "complete (not re-checked)") {
		t.Errorf("it does not say that it trusted the marker: %s%s", said, r.Stderr)
	}
	if changed = strings.TrimSpace(changed); changed != "" {
		t.Errorf("it changed:\n%s", changed)
	}
}

func statusNamesDrift(t *testing.T, l *lab.Lab) {
	ctx := labtest.Within(t, 10*time.Minute)
	h := l.Hosts[0]
	want := func(code int, parts ...string) {
		t.Helper()
		r, err := h.Run(ctx, "firstboot status")
		if err != nil || r.Code != code {
			t.Fatalf("status ended with %d (%v), want %d:\n%s%s", r.Code, err, code, r.Stdout, r.Stderr)
		}
		for _, part := range parts {
			if !strings.Contains(r.Stdout, part) {
				t.Errorf("status does not say %q:\n%s", part, r.Stdout)
			}
		}
	}
	start := time.Now()
	want(0, "complete")
	took := time.Since(start)
	if _, err := h.Output(ctx, "systemctl stop calico-node"); err != nil {
		t.Fatal(err)
	}
	want(9, "drifted", "node       failed", "calico-node")
	if _, err := h.Output(ctx, "systemctl start calico-node"); err != nil {
		t.Fatal(err)
	}
	limit := time.Minute
	if l.Accel == machine.TCG { // calico-node alone needs 70 s then until it is ready, and one look takes long
		limit = 3*time.Minute + 5*took
	}
	start = time.Now()
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := h.Wait(waiting, "status 0", func(ctx context.Context) error {
		_, err := h.Output(ctx, "firstboot status")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("complete again %s after the start of calico-node", time.Since(start).Round(time.Second))
}

//go:build lab

package bench

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

//go:embed runbook.sh
var runbook []byte

const runbookPath = "/opt/bench/runbook.sh"

// subject is what is measured on a bare host.
type subject struct {
	name    string
	debian  golden.Release
	network string
	command string // prints "STEP NAME SECONDS" lines, or nothing
}

// The script supports only a global network, which Debian 12 alone has.
var (
	script  = subject{"script", golden.Debian12, "global", "bash " + runbookPath}
	ofHosts = []subject{
		{"firstboot, global, Debian 12", golden.Debian12, "global", firstboot},
		{"firstboot, local, Debian 12", golden.Debian12, "local", firstboot},
		{"firstboot, local, Debian 13", golden.Debian13, "local", firstboot},
	}
)

const firstboot = "firstboot run"

// result is one measurement: that of the slowest of the hosts.
type result struct {
	seconds, cpu  float64 // cpu is the guest's
	read, written float64 // in MB
	output        string
}

// TestBench measures BENCH_PAIRS pairs of script and firstboot, in turns; without
// BENCH_PAIRS it measures nothing. BENCH_ONLY selects the subjects whose name
// contains it.
func TestBench(t *testing.T) {
	pairs, err := strconv.Atoi(os.Getenv("BENCH_PAIRS"))
	if err != nil || pairs < 1 {
		t.Skip("BENCH_PAIRS is not set: make bench")
	}
	for _, hosts := range []int{1, 2} {
		for _, s := range ofHosts {
			if !strings.Contains(s.name, os.Getenv("BENCH_ONLY")) {
				continue
			}
			t.Run(fmt.Sprintf("%d hosts with %d CPUs, %s", hosts, 3-hosts, s.name), func(t *testing.T) {
				var ratios []float64
				for range pairs {
					base, ours := measure(t, script, hosts), measure(t, s, hosts)
					if t.Failed() {
						t.Fatal("no ratio, because a measurement failed")
					}
					ratios = append(ratios, ours.seconds/base.seconds)
				}
				slices.Sort(ratios)
				t.Logf("ratio: median %.2f, from %.2f to %.2f", ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
			})
		}
	}
}

// measure boots new hosts, whose firstboot.service is masked, and runs the subject
// on all of them at the same time.
func measure(t *testing.T, s subject, hosts int) result {
	t.Helper()
	ctx := labtest.Within(t, 30*time.Minute)
	l := labtest.New(t, lab.Options{
		Hosts: hosts, Debian: []golden.Release{s.debian}, Append: "systemd.mask=firstboot.service",
		Config: func(c *lab.Config) { c.Set("docker", "network", s.network) },
		Files:  []golden.File{{Path: runbookPath, Data: runbook, Mode: 0o755}},
	})
	defer l.Close()
	for _, h := range l.Hosts {
		h.Machine().CPUs = 3 - hosts
		labtest.NoError(t, h.Boot(ctx))
	}
	for _, h := range l.Hosts {
		labtest.NoError(t, h.WaitUp(ctx))
		labtest.NoError(t, h.Wait(ctx, "Docker to run", func(ctx context.Context) error {
			_, err := h.Output(ctx, "systemctl is-active docker && docker info")
			return err
		}))
	}
	results := make([]result, hosts)
	var running sync.WaitGroup
	for i, h := range l.Hosts {
		running.Go(func() { results[i] = measureHost(ctx, t, h, s) })
	}
	running.Wait()
	slowest := slices.MaxFunc(results, func(a, b result) int { return int(1000 * (a.seconds - b.seconds)) })
	t.Logf("%s: %.1f s, %.1f s of CPU, %.0f MB read, %.0f MB written\n%s", s.name, slowest.seconds, slowest.cpu, slowest.read, slowest.written, slowest.output)
	return slowest
}

// counters prints the guest's busy CPU time in ticks, and the sectors that its disk
// has read and written.
const counters = `awk '/^cpu / {print $2+$3+$4+$7+$8}' /proc/stat; awk '$3 == "vda" {print $6, $10}' /proc/diskstats`

// measureHost runs the subject on one host.
func measureHost(ctx context.Context, t *testing.T, h *lab.Host, s subject) result {
	before := numbers(ctx, t, h)
	start := time.Now()
	out, err := h.Output(ctx, s.command+" 2>&1")
	r := result{seconds: time.Since(start).Seconds(), output: out}
	if err != nil || strings.Contains(out, "FAILED") {
		t.Errorf("%s on %s: %v\n%s", s.name, h.Name, err, out)
		return r
	}
	after := numbers(ctx, t, h)
	r.cpu = (after[0] - before[0]) / 100 // USER_HZ
	r.read, r.written = (after[1]-before[1])*512/1e6, (after[2]-before[2])*512/1e6
	return r
}

// numbers returns the three counters.
func numbers(ctx context.Context, t *testing.T, h *lab.Host) [3]float64 {
	var n [3]float64
	out, err := h.Output(ctx, counters)
	if err == nil {
		_, err = fmt.Sscan(out, &n[0], &n[1], &n[2])
	}
	if err != nil {
		t.Errorf("cannot read the counters of %s: %v: %q", h.Name, err, out)
	}
	return n
}

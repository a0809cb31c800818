//go:build lab

package bench

import (
	"context"
	"embed"
	"fmt"
	"maps"
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

//go:embed *.sh
var scripts embed.FS

// dir is where the hosts have the scripts.
const dir = "/opt/bench/"

// subject is what is measured on a bare host.
type subject struct {
	name    string
	debian  golden.Release
	network string
	command string
}

// The script supports only a global network, which Debian 12 alone has.
var (
	script = subject{"script", golden.Debian12, "global", "bash " + dir + "runbook.sh"}
	// limit is the longest chain of other programs' work by itself: from the start of
	// Docker until a container answers.
	limit   = subject{"limit", golden.Debian12, "global", "bash " + dir + "runbook.sh sysctl calicoctl rpm plugin docker pool docker node verify"}
	ofHosts = []subject{
		{"firstboot, global, Debian 12", golden.Debian12, "global", firstboot},
		{"firstboot, local, Debian 12", golden.Debian12, "local", firstboot},
		{"firstboot, local, Debian 13", golden.Debian13, "local", firstboot},
	}
)

const firstboot = "firstboot run"

// at precedes a command. It puts the time and the counters before each line of the
// command's output.
const at = "bash " + dir + "at.sh "

// result is one measurement: that of the slowest of the hosts.
type result struct {
	seconds, cpu  float64            // cpu is the guest's
	read, written float64            // in MB
	users         map[string]float64 // seconds of CPU by who used them
	output        string
}

// shares says who used the processors.
func (r result) shares() string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.users)) {
		fmt.Fprintf(&out, ", %s %.1f", name, r.users[name])
	}
	return " (" + strings.TrimPrefix(out.String(), ", ") + ")"
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
		t.Run(fmt.Sprintf("%d hosts with %d CPUs each, limit", hosts, 3-hosts), func(t *testing.T) {
			if strings.Contains(limit.name, os.Getenv("BENCH_ONLY")) {
				measure(t, limit, hosts)
			}
		})
		for _, s := range ofHosts {
			if !strings.Contains(s.name, os.Getenv("BENCH_ONLY")) {
				continue
			}
			t.Run(fmt.Sprintf("%d hosts with %d CPUs each, %s", hosts, 3-hosts, s.name), func(t *testing.T) {
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
		Files:  scriptFiles(t),
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
	t.Logf("%s: %.1f s, %.1f s of CPU%s, %.0f MB read, %.0f MB written\n%s", s.name, slowest.seconds, slowest.cpu, slowest.shares(), slowest.read, slowest.written, slowest.output)
	if s.command == firstboot && !t.Failed() {
		measureStatus(ctx, t, l.Hosts[0])
	}
	return slowest
}

// scriptFiles returns the scripts as files of a host.
func scriptFiles(t *testing.T) []golden.File {
	entries, err := scripts.ReadDir(".")
	labtest.NoError(t, err)
	var files []golden.File
	for _, e := range entries {
		data, err := scripts.ReadFile(e.Name())
		labtest.NoError(t, err)
		files = append(files, golden.File{Path: dir + e.Name(), Data: data, Mode: 0o755})
	}
	return files
}

// measureStatus compares firstboot status with another client of the same kind.
func measureStatus(ctx context.Context, t *testing.T, h *lab.Host) {
	const command = `TIMEFORMAT="%U %S"; for c in "firstboot status" "docker version"; do $c >/dev/null; time $c >/dev/null; done`
	out, err := h.Output(ctx, "bash -c '"+command+"' 2>&1")
	var status, docker [2]float64
	if err == nil {
		_, err = fmt.Sscan(out, &status[0], &status[1], &docker[0], &docker[1])
	}
	if err != nil {
		t.Errorf("the cost of status: %v: %s", err, out)
		return
	}
	used, reference := status[0]+status[1], docker[0]+docker[1]
	t.Logf("firstboot status: %.2f s of CPU, %.1f times docker version", used, used/reference)
}

// counters prints the guest's busy CPU time in ticks, the sectors that its disk has
// read and written, and the CPU time in µs of each control group.
const counters = `awk '/^cpu / {print "cpu", $2+$3+$4+$7+$8}' /proc/stat
awk '$3 == "vda" {print "read", $6; print "written", $10}' /proc/diskstats
for f in /sys/fs/cgroup/init.scope /sys/fs/cgroup/system.slice/*; do
	[ ! -r $f/cpu.stat ] || awk -v of="${f##*/}" '/^usage_usec/ {print of, $2}' $f/cpu.stat
done`

// users are who uses the guest's processors: the control groups whose names begin
// with these words. The rest is the kernel's own work and that of short-lived groups.
var users = []struct{ name, group string }{
	{"the command", "ssh"}, {"Docker", "docker.service"}, {"Docker", "containerd"}, {"containers", "docker-"},
	{"eru-minions", "eru-minions"}, {"systemd", "init.scope"}, {"systemd", "systemd-"}, {"systemd", "dbus"},
}

// measureHost runs the subject on one host.
func measureHost(ctx context.Context, t *testing.T, h *lab.Host, s subject) result {
	before := readCounters(ctx, t, h)
	start := time.Now()
	out, err := h.Output(ctx, at+s.command)
	r := result{seconds: time.Since(start).Seconds(), output: out}
	if err != nil || strings.Contains(out, "FAILED") {
		t.Errorf("%s on %s: %v\n%s", s.name, h.Name, err, out)
		return r
	}
	after := readCounters(ctx, t, h)
	r.cpu = (after["cpu"] - before["cpu"]) / 100 // USER_HZ
	r.read, r.written = (after["read"]-before["read"])*512/1e6, (after["written"]-before["written"])*512/1e6
	r.users = map[string]float64{}
	for group, used := range after {
		if used < before[group] {
			before[group] = 0 // the group is new: its unit was restarted
		}
		for _, u := range users {
			if strings.HasPrefix(group, u.group) {
				r.users[u.name] += (used - before[group]) / 1e6
				break
			}
		}
	}
	return r
}

// readCounters returns the counters by their names.
func readCounters(ctx context.Context, t *testing.T, h *lab.Host) map[string]float64 {
	out, err := h.Output(ctx, counters)
	if err != nil {
		t.Errorf("cannot read the counters of %s: %v", h.Name, err)
	}
	n := map[string]float64{}
	for line := range strings.Lines(out) {
		var name string
		var value float64
		if _, err := fmt.Sscan(line, &name, &value); err != nil {
			t.Errorf("a counter of %s: %v: %q", h.Name, err, line)
		}
		n[name] = value
	}
	return n
}

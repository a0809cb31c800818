//go:build lab

package scenarios

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

const (
	// nextBinary is a newer firstboot in the image, for the upgrade.
	nextBinary, nextVersion = "/opt/firstboot-next", "v99.0.0"
	// secret is in the configuration and must not be in any output.
	secret = "hunter2-of-the-lab"
	// etcdDelay is the time between the reboot and the start of etcd.
	etcdDelay = 3 * time.Minute
)

// staleNode is a Node whose machine no longer exists.
const staleNode = `{"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "ghost"},
	"spec": {"bgp": {"ipv4Address": "10.123.0.99/24"}}}`

// accounting makes systemd count firstboot's traffic, and start two units after
// it, whose times are compared with firstboot's: one does nothing, and one only
// prints the version.
var accounting = []golden.File{
	{Path: "/etc/systemd/system/firstboot.service.d/lab.conf", Data: []byte(
		"[Unit]\nWants=lab-true.service lab-version.service\n[Service]\nIPAccounting=yes\n")},
	{Path: "/etc/systemd/system/lab-true.service", Data: trivial("/bin/true")},
	{Path: "/etc/systemd/system/lab-version.service", Data: trivial("/usr/bin/firstboot version")},
}

// traffic prints the bytes that firstboot.service received and sent during this
// boot, counted by the kernel for the unit's control group.
const traffic = "systemctl show -p IPIngressBytes -p IPEgressBytes firstboot"

func trivial(command string) []byte {
	return []byte("[Unit]\nAfter=firstboot.service\nDefaultDependencies=no\n" +
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=" + command + "\n")
}

// TestClusterLifecycle tests two hosts: they wait for etcd, join although there is
// a stale Node, report changes of the pool, and reboot before etcd starts. Then one
// leaves.
func TestClusterLifecycle(t *testing.T) {
	l := labtest.New(t, lab.Options{
		Files: append(accounting, golden.File{Path: nextBinary, Data: buildFirstboot(t, nextVersion), Mode: 0o755}),
		Config: func(c *lab.Config) {
			c.Set("node", "environment", map[string]string{"LAB_PASSWORD": secret})
			c.Set("minions", "environment", map[string]string{"LAB_PASSWORD": secret})
		},
	})
	calicoctl(t, l, staleNode, "create", "-f", "-")
	labtest.NoError(t, l.Etcd.Stop())
	labtest.NoError(t, l.Boot(labtest.Context(t))) // both at the same time

	labtest.Step(t, "first boot without etcd: the run waits and shows the reason", func(t *testing.T) { waitForEtcd(t, l) })
	labtest.Step(t, "etcd starts: both hosts complete and report the stale node", func(t *testing.T) { reportStaleNode(t, l) })
	pair := &pair{}
	labtest.Step(t, "containers on both hosts reach each other through one pool", func(t *testing.T) { pair.reachEachOther(t, l); wantOnePool(t, l) })
	labtest.Step(t, "a second run without a network changes nothing", func(t *testing.T) { secondRun(t, l.Hosts[0]) })
	labtest.Step(t, "calico-node is stopped: status reports drift until it runs again", func(t *testing.T) { statusReportsDrift(t, l) })
	drift := &drift{l: l}
	labtest.Step(t, "the pool is changed: all hosts report drift, none overwrites it", drift.changed)
	labtest.Step(t, "the pool's annotation is overwritten: run --force repairs it", drift.annotationOverwritten)
	reboot := &reboot{l: l, pair: pair}
	labtest.Step(t, "a joined host reboots without etcd: firstboot takes almost no time", reboot.withoutEtcd)
	labtest.Step(t, "without etcd status is unknown, and logs contains no secrets", reboot.statusAndLogs)
	labtest.Step(t, "etcd starts: containers start again", reboot.containersStart)
	labtest.Step(t, "the binary is upgraded: status reports it, nothing is changed", func(t *testing.T) { upgradeBinary(t, l.Hosts[1]) })
	labtest.Step(t, "a host leaves", func(t *testing.T) { leave(t, l) })
	labtest.Step(t, "a host that left does not join at the next boot", func(t *testing.T) { doesNotJoinAgain(t, l) })
}

func waitForEtcd(t *testing.T, l *lab.Lab) {
	for _, h := range l.Hosts {
		line := console(t, h, 0, 5*time.Minute, "firstboot: preflight", "waiting for etcd at "+l.Etcd.Endpoint)
		t.Logf("%s: %s", h.Name, line)
		labtest.Contains(t, line, "since", "next attempt in", "connection refused")
	}
	h := l.Hosts[0]
	labtest.NoError(t, h.WaitUp(labtest.Context(t)))
	output := labtest.Run(t, h, 7, "firstboot status")
	t.Logf("%s", output)
	labtest.Contains(t, output, "running: a run is in progress", "preflight  running", "waiting for etcd at "+l.Etcd.Endpoint+" since", "the run continues by itself", "firstboot status --wait")
	labtest.Contains(t, labtest.Run(t, h, 0, "systemctl show -p StatusText --value firstboot"), "1/10 preflight: waiting for etcd at "+l.Etcd.Endpoint)
	labtest.Contains(t, labtest.Run(t, h, 3, "systemctl is-active firstboot"), "activating")
	labtest.NotContains(t, labtest.Run(t, h, 0, "systemctl list-units --no-legend --state=active '*.target'"), "firstboot-complete.target")
	// Nothing is changed before preflight has passed.
	labtest.Equal(t, "installed files", "", labtest.Run(t, h, 0, "ls -d /usr/bin/calicoctl /etc/calico /etc/docker/daemon.json 2>/dev/null; true"))
}

func reportStaleNode(t *testing.T, l *lab.Lab) {
	ctx := labtest.Within(t, joinTimeout)
	labtest.NoError(t, l.Each(func(h *lab.Host) error { return watchMemory(ctx, h) }))
	labtest.NoError(t, l.Etcd.Start(ctx))
	start := time.Now()
	labtest.NoError(t, l.Each(func(h *lab.Host) error { return h.WaitComplete(ctx) }))
	t.Logf("both hosts are complete %s after the start of etcd (%s)", time.Since(start).Round(time.Second), l.Accel)
	const warning = "BGP peer 10.123.0.99 (node ghost) is not established"
	for _, h := range l.Hosts {
		console(t, h, 0, time.Second, "firstboot: node", "warning: "+warning, "calicoctl delete node ghost")
		peakMemory(t, h)
	}
	runOnAll(t, l, 0, "firstboot status", "complete", "warning: "+warning)
	labtest.Run(t, l.Hosts[0], 0, "calicoctl delete node ghost")
	// Shows that traffic is counted. After a reboot it must be zero.
	labtest.NotContains(t, labtest.Run(t, l.Hosts[0], 0, traffic), "=0\n", "no data")
}

// drift tests changes of the cluster's pool.
type drift struct {
	l      *lab.Lab
	before string // the unchanged pool
}

func (d *drift) changed(t *testing.T) {
	one, two := d.l.Hosts[0], d.l.Hosts[1]
	d.before = readPool(t, d.l)
	labtest.Run(t, two, 0, `calicoctl patch ippool firstboot -p '{"spec": {"natOutgoing": false}}'`)
	changed := readPool(t, d.l)
	runOnAll(t, d.l, 9, "firstboot status", "drifted", "pool       failed", "IPPool firstboot natOutgoing", "calicoctl patch")
	output := labtest.Run(t, one, 1, "firstboot run --force")
	t.Logf("%s", output)
	labtest.Contains(t, output, "natOutgoing", "not overwritten")
	labtest.Equal(t, "the changed pool", changed, readPool(t, d.l))
	labtest.Run(t, two, 0, `calicoctl patch ippool firstboot -p '{"spec": {"natOutgoing": true}}'`)
	// calicoctl removes the annotation when it patches a spec (measured), and the
	// last run on host1 failed. Another run repairs both.
	labtest.Run(t, one, 0, "firstboot run --force")
	runOnAll(t, d.l, 0, "firstboot status")
	labtest.Equal(t, "the pool", d.before, readPool(t, d.l))
}

// annotationOverwritten creates a second network with the same CIDR.
func (d *drift) annotationOverwritten(t *testing.T) {
	one, two := d.l.Hosts[0], d.l.Hosts[1]
	id := strings.TrimSpace(labtest.Run(t, two, 0, "docker network create --driver calico --ipam-driver calico-ipam --subnet "+lab.PoolCIDR+" second"))
	labtest.Contains(t, readPool(t, d.l), id)
	runOnAll(t, d.l, 9, "firstboot status", "drifted", "IPPool firstboot annotation", "bound to network "+id[:12])
	labtest.Run(t, two, 0, "docker network rm second")
	labtest.Run(t, one, 0, "firstboot run --force")
	labtest.Equal(t, "the pool", d.before, readPool(t, d.l))
	runOnAll(t, d.l, 0, "firstboot status")
}

// readPool returns the pool without its resource version.
func readPool(t *testing.T, l *lab.Lab) string {
	t.Helper()
	var kept []string
	for line := range strings.Lines(calicoctl(t, l, "", "get", "ippool", "firstboot", "-o", "yaml")) {
		if !strings.Contains(line, "resourceVersion:") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// reboot tests a reboot of host 1, on which a container must start again.
type reboot struct {
	l     *lab.Lab
	pair  *pair
	start time.Time
	files string
}

// stateFiles prints the times and digests of firstboot's state files.
const stateFiles = "cd /var/lib/firstboot && stat -c '%n %Y %Z %s' *.json && sha256sum *.json"

func (r *reboot) withoutEtcd(t *testing.T) {
	one := r.l.Hosts[0]
	ctx := labtest.Within(t, joinTimeout)
	r.files = labtest.Run(t, one, 0, stateFiles)

	labtest.NoError(t, one.PowerOff(ctx))
	labtest.NoError(t, r.l.Etcd.Stop())
	from := consoleLength(one)
	r.start = time.Now()
	labtest.NoError(t, one.Boot(ctx))
	labtest.NoError(t, one.WaitUp(ctx))
	labtest.NoError(t, one.Wait(ctx, "the end of firstboot.service", unitActive(one, "lab-version.service")))
	labtest.Contains(t, console(t, one, from, time.Minute, "firstboot: complete"), "not re-checked")
	labtest.Equal(t, "firstboot's state files", r.files, labtest.Run(t, one, 0, stateFiles))
	labtest.Contains(t, labtest.Run(t, one, 0, "systemctl is-active firstboot.service firstboot-complete.target"), "active\nactive")

	for _, unit := range []string{"firstboot", "lab-version", "lab-true"} {
		t.Logf("%s.service during this boot (%s): %s, CPU time %s", unit, r.l.Accel, execTime(t, one, unit), cpuTime(t, one, unit))
	}
	wantFastRun(t, r.l, one)
	labtest.Equal(t, "bytes received and sent by the unit during this boot", "IPIngressBytes=0\nIPEgressBytes=0\n", labtest.Run(t, one, 0, traffic))
}

// execTime returns the duration of the unit's command, as measured by systemd.
func execTime(t *testing.T, h *lab.Host, unit string) time.Duration {
	t.Helper()
	output := labtest.Run(t, h, 0, "systemctl show -p ExecMainStartTimestampMonotonic -p ExecMainExitTimestampMonotonic --value "+unit)
	fields := strings.Fields(output)
	if len(fields) != 2 {
		t.Fatalf("the times of %s are %q", unit, output)
	}
	start, err := strconv.ParseInt(fields[0], 10, 64)
	labtest.NoError(t, err)
	end, err := strconv.ParseInt(fields[1], 10, 64)
	labtest.NoError(t, err)
	return time.Duration(end-start) * time.Microsecond
}

// cpuTime returns the unit's CPU time.
func cpuTime(t *testing.T, h *lab.Host, unit string) time.Duration {
	t.Helper()
	ns, err := strconv.ParseInt(strings.TrimSpace(labtest.Run(t, h, 0, "systemctl show -p CPUUsageNSec --value "+unit)), 10, 64)
	labtest.NoError(t, err)
	return time.Duration(ns)
}

const (
	// maxBootCost is the maximum duration of a run on a complete host with KVM.
	maxBootCost = 20 * time.Millisecond
	// measure prints the shortest duration of a command in several runs, in µs.
	measure = `least=; for i in 1 2 3 4 5 6 7; do a=${EPOCHREALTIME/./}; %s >/dev/null 2>&1; b=${EPOCHREALTIME/./}
if [ -z "$least" ] || [ $((b - a)) -lt $least ]; then least=$((b - a)); fi; done; echo $least`
)

// wantFastRun compares a run on a complete host with firstboot version, because an
// emulated processor is more than ten times slower than a real one.
func wantFastRun(t *testing.T, l *lab.Lab, h *lab.Host) {
	t.Helper()
	took := func(command string) time.Duration {
		us, err := strconv.ParseInt(strings.TrimSpace(labtest.Run(t, h, 0, fmt.Sprintf(measure, command))), 10, 64)
		labtest.NoError(t, err)
		return time.Duration(us) * time.Microsecond
	}
	run, version, nothing := took("firstboot run"), took("firstboot version"), took("/bin/true")
	t.Logf("on an idle host (%s): firstboot run %s, firstboot version %s, /bin/true %s", l.Accel, run, version, nothing)
	if run > 2*version {
		t.Errorf("firstboot run took %s, more than twice the %s of firstboot version", run, version)
	}
	if l.Accel == machine.KVM && run > maxBootCost {
		t.Errorf("firstboot run took %s, want at most %s", run, maxBootCost)
	}
}

func (r *reboot) statusAndLogs(t *testing.T) {
	one, two := r.l.Hosts[0], r.l.Hosts[1]
	labtest.Contains(t, labtest.Run(t, two, 11, "firstboot status"), "unknown", "etcd at "+r.l.Etcd.Endpoint)
	labtest.Contains(t, labtest.Run(t, one, 0, "systemctl status --no-pager docker; true"), "wait-plugin")
	labtest.Contains(t, labtest.Run(t, one, 0, "journalctl --no-pager -b -u docker"), "waiting for")

	labtest.Run(t, two, 0, "firstboot logs --file /root/report.tar.gz")
	labtest.Contains(t, labtest.Run(t, two, 0, "stat -c %a /root/report.tar.gz; tar tzf /root/report.tar.gz"), "600", "firstboot.log", "status.json", "journal.json")
	report := labtest.Run(t, two, 0, "tar xzOf /root/report.tar.gz; firstboot logs; firstboot status -o json; firstboot config; true")
	labtest.NotContains(t, report, secret)
	labtest.Contains(t, report, ": complete")
	labtest.Contains(t, labtest.Run(t, two, 0, "cat /etc/firstboot/config.yaml"), secret)
}

func (r *reboot) containersStart(t *testing.T) {
	one := r.l.Hosts[0]
	delay := time.Until(r.start.Add(etcdDelay))
	t.Logf("etcd starts in %s", max(0, delay).Round(time.Second))
	time.Sleep(delay)
	labtest.NoError(t, r.l.Etcd.Start(labtest.Context(t)))
	start := time.Now()
	ctx := labtest.Within(t, joinTimeout)
	labtest.NoError(t, one.Wait(ctx, "the container to run", func(ctx context.Context) error {
		out, err := one.Output(ctx, "docker inspect -f '{{.State.Running}}' "+r.pair.one.Name)
		if err == nil && strings.TrimSpace(out) != "true" {
			err = fmt.Errorf("running is %s", strings.TrimSpace(out))
		}
		return err
	}))
	t.Logf("its container runs %s after the start of etcd", time.Since(start).Round(time.Second))
	summary, err := r.pair.two.Ping(ctx, address(t, r.pair.one))
	t.Logf("it answers %s after the start of etcd: %s", time.Since(start).Round(time.Second), summary)
	labtest.NoError(t, err)
	labtest.Contains(t, labtest.Run(t, one, 0, "docker run --rm --name new-one --network firstboot "+golden.PingImage+" ifconfig"), "cali0")
	labtest.Contains(t, labtest.Run(t, one, 0, "firstboot status"), "complete")
	labtest.Equal(t, "firstboot's state files", r.files, labtest.Run(t, one, 0, stateFiles))
}

func upgradeBinary(t *testing.T, h *lab.Host) {
	before := labtest.Run(t, h, 0, stateFiles)
	labtest.Run(t, h, 0, "install -m 755 "+nextBinary+" /usr/bin/firstboot")
	output := labtest.Run(t, h, 0, "firstboot status")
	t.Logf("%s", output)
	labtest.Contains(t, output, "complete", "this is firstboot "+nextVersion, "completed this host; firstboot plan --force shows what this version would change, firstboot run --force applies it")
	labtest.Contains(t, labtest.Run(t, h, 0, "firstboot run"), "complete (not re-checked)")
	labtest.Equal(t, "firstboot's state files", before, labtest.Run(t, h, 0, stateFiles))
}

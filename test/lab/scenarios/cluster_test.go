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
	// nextBinary is a newer firstboot, in the image for the story of an upgrade.
	nextBinary, nextVersion = "/opt/firstboot-next", "v99.0.0"
	// secret is in the configuration, and must be in nothing that is shown.
	secret = "hunter2-of-the-lab"
	// etcdLate is how late etcd is at the reboot.
	etcdLate = 3 * time.Minute
)

// staleNode is a Node whose machine is gone, as an operator finds it in etcd.
const staleNode = `{"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "ghost"},
	"spec": {"bgp": {"ipv4Address": "10.123.0.99/24"}}}`

// accounting lets systemd count what firstboot sends, and start, after it, two
// units that its time is compared with: one that does nothing, and one that
// only starts the same binary.
var accounting = []golden.File{
	{Path: "/etc/systemd/system/firstboot.service.d/lab.conf", Data: []byte(
		"[Unit]\nWants=lab-true.service lab-version.service\n[Service]\nIPAccounting=yes\n")},
	{Path: "/etc/systemd/system/lab-true.service", Data: trivial("/bin/true")},
	{Path: "/etc/systemd/system/lab-version.service", Data: trivial("/usr/bin/firstboot version")},
}

// traffic is what firstboot.service received and sent at this boot, as the
// kernel counted it for the unit's control group.
const traffic = "systemctl show -p IPIngressBytes -p IPEgressBytes firstboot"

func trivial(command string) []byte {
	return []byte("[Unit]\nAfter=firstboot.service\nDefaultDependencies=no\n" +
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=" + command + "\n")
}

// TestClusterLifecycle is the life of two hosts: they wait for etcd, join
// beside a Node of a machine that is gone, see their pool changed, reboot with
// etcd late, and one leaves.
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
	labtest.NoError(t, l.Boot(labtest.Context(t))) // both at the same instant

	labtest.Step(t, "etcd is not there at first boot: the run says what it waits for", func(t *testing.T) { waitsForEtcd(t, l) })
	labtest.Step(t, "etcd comes: both hosts complete by themselves, and name the stale node", func(t *testing.T) { staleNodeNamed(t, l) })
	pair := &pair{}
	labtest.Step(t, "containers reach each other both ways, through one pool", func(t *testing.T) { pair.reachEachOther(t, l); poolMadeOnce(t, l) })
	labtest.Step(t, "a second run changes nothing, without a network", func(t *testing.T) { secondRun(t, l.Hosts[0]) })
	labtest.Step(t, "calico-node was stopped: status names it, until it runs again", func(t *testing.T) { statusNamesDrift(t, l) })
	drift := &drift{l: l}
	labtest.Step(t, "the pool was changed: told on every host, never overwritten", drift.changed)
	labtest.Step(t, "the pool's annotation was stolen: it alone is repaired", drift.stolen)
	reboot := &reboot{l: l, pair: pair}
	labtest.Step(t, "a joined host reboots, etcd is late: firstboot's unit costs nothing", reboot.cheap)
	labtest.Step(t, "without etcd status cannot tell, and logs packs a report without secrets", reboot.askWithoutEtcd)
	labtest.Step(t, "etcd comes: containers come back by themselves", reboot.back)
	labtest.Step(t, "the binary is upgraded: nothing is done, and said so", func(t *testing.T) { upgraded(t, l.Hosts[1]) })
	labtest.Step(t, "a host leaves", func(t *testing.T) { leaves(t, l) })
	labtest.Step(t, "a host that left stays out at the next boot", func(t *testing.T) { staysOut(t, l) })
}

func waitsForEtcd(t *testing.T, l *lab.Lab) {
	for _, h := range l.Hosts {
		line := console(t, h, 0, 5*time.Minute, "firstboot: preflight", "waiting for etcd at "+l.Etcd.Endpoint)
		t.Logf("%s: %s", h.Name, line)
		labtest.Contains(t, line, "since", "next attempt in", "connection refused")
	}
	h := l.Hosts[0]
	labtest.NoError(t, h.WaitUp(labtest.Context(t)))
	said := labtest.Run(t, h, 7, "firstboot status")
	t.Logf("%s", said)
	labtest.Contains(t, said, "running: a run is in progress", "preflight  running", "waiting for etcd at "+l.Etcd.Endpoint+" since", "the run continues by itself", "firstboot status --wait")
	labtest.Contains(t, labtest.Run(t, h, 0, "systemctl show -p StatusText --value firstboot"), "1/9 preflight: waiting for etcd at "+l.Etcd.Endpoint)
	labtest.Contains(t, labtest.Run(t, h, 3, "systemctl is-active firstboot"), "activating")
	labtest.NotContains(t, labtest.Run(t, h, 0, "systemctl list-units --no-legend --state=active '*.target'"), "firstboot-complete.target")
	// Nothing is touched before preflight has passed.
	labtest.Equal(t, "what is installed", "", labtest.Run(t, h, 0, "ls -d /usr/bin/calicoctl /etc/calico /etc/docker/daemon.json 2>/dev/null; true"))
}

func staleNodeNamed(t *testing.T, l *lab.Lab) {
	ctx := labtest.Within(t, joinTime)
	labtest.NoError(t, l.Each(func(h *lab.Host) error { return watchMemory(ctx, h) }))
	labtest.NoError(t, l.Etcd.Start(ctx))
	began := time.Now()
	labtest.NoError(t, l.Each(func(h *lab.Host) error { return h.WaitComplete(ctx) }))
	t.Logf("both hosts are complete %s after etcd was there (%s)", time.Since(began).Round(time.Second), l.Accel)
	const warning = "BGP peer 10.123.0.99 (node ghost) is not established"
	for _, h := range l.Hosts {
		console(t, h, 0, time.Second, "firstboot: node", "warning: "+warning, "calicoctl delete node ghost")
		peakMemory(t, h)
	}
	everywhere(t, l, 0, "firstboot status", "complete", "warning: "+warning)
	labtest.Run(t, l.Hosts[0], 0, "calicoctl delete node ghost")
	// The count of the story of the reboot can be other than zero.
	labtest.NotContains(t, labtest.Run(t, l.Hosts[0], 0, traffic), "=0\n", "no data")
}

// drift is what happens to the cluster's pool, and what it was before.
type drift struct {
	l      *lab.Lab
	before string
}

func (d *drift) changed(t *testing.T) {
	one, two := d.l.Hosts[0], d.l.Hosts[1]
	d.before = poolNow(t, d.l)
	labtest.Run(t, two, 0, `calicoctl patch ippool firstboot -p '{"spec": {"natOutgoing": false}}'`)
	changed := poolNow(t, d.l)
	everywhere(t, d.l, 9, "firstboot status", "drifted", "pool       failed", "IPPool firstboot natOutgoing", "calicoctl patch")
	said := labtest.Run(t, one, 1, "firstboot run --force")
	t.Logf("%s", said)
	labtest.Contains(t, said, "natOutgoing", "not overwritten")
	labtest.Equal(t, "the pool that somebody changed", changed, poolNow(t, d.l))
	labtest.Run(t, two, 0, `calicoctl patch ippool firstboot -p '{"spec": {"natOutgoing": true}}'`)
	// calicoctl's patch of a spec takes the annotation with it (measured), and
	// host1's last run failed: one more sets both right.
	labtest.Run(t, one, 0, "firstboot run --force")
	everywhere(t, d.l, 0, "firstboot status")
	labtest.Equal(t, "the pool", d.before, poolNow(t, d.l))
}

// stolen: a second network took the pool's annotation.
func (d *drift) stolen(t *testing.T) {
	one, two := d.l.Hosts[0], d.l.Hosts[1]
	id := strings.TrimSpace(labtest.Run(t, two, 0, "docker network create --driver calico --ipam-driver calico-ipam --subnet "+lab.PoolCIDR+" thief"))
	labtest.Contains(t, poolNow(t, d.l), id) // it was stolen
	everywhere(t, d.l, 9, "firstboot status", "drifted", "IPPool firstboot annotation", "bound to network "+id[:12])
	labtest.Run(t, two, 0, "docker network rm thief")
	labtest.Run(t, one, 0, "firstboot run --force")
	labtest.Equal(t, "the pool", d.before, poolNow(t, d.l))
	everywhere(t, d.l, 0, "firstboot status")
}

// poolNow is the pool without what every write counts up.
func poolNow(t *testing.T, l *lab.Lab) string {
	t.Helper()
	var kept []string
	for line := range strings.Lines(calicoctl(t, l, "", "get", "ippool", "firstboot", "-o", "yaml")) {
		if !strings.Contains(line, "resourceVersion:") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// reboot is host 1's, with a container that has to come back.
type reboot struct {
	l     *lab.Lab
	pair  *pair
	began time.Time
	files string
}

// notes are what firstboot keeps of a complete host, with times and contents.
const notes = "cd /var/lib/firstboot && stat -c '%n %Y %Z %s' *.json && sha256sum *.json"

func (r *reboot) cheap(t *testing.T) {
	one := r.l.Hosts[0]
	ctx := labtest.Within(t, joinTime)
	r.files = labtest.Run(t, one, 0, notes)

	labtest.NoError(t, one.PowerOff(ctx))
	labtest.NoError(t, r.l.Etcd.Stop())
	from := sofar(one)
	r.began = time.Now()
	labtest.NoError(t, one.Boot(ctx))
	labtest.NoError(t, one.WaitUp(ctx))
	labtest.NoError(t, one.Wait(ctx, "the end of firstboot.service", unitActive(one, "lab-version.service")))
	labtest.Contains(t, console(t, one, from, time.Minute, "firstboot: complete"), "not re-checked")
	labtest.Equal(t, "what firstboot keeps", r.files, labtest.Run(t, one, 0, notes))
	labtest.Contains(t, labtest.Run(t, one, 0, "systemctl is-active firstboot.service firstboot-complete.target"), "active\nactive")

	for _, unit := range []string{"firstboot", "lab-version", "lab-true"} {
		t.Logf("%s.service at this boot (%s): %s, of which the processor %s", unit, r.l.Accel, execTime(t, one, unit), cpuTime(t, one, unit))
	}
	quick(t, r.l, one)
	labtest.Equal(t, "bytes that the unit received and sent at this boot", "IPIngressBytes=0\nIPEgressBytes=0\n", labtest.Run(t, one, 0, traffic))
}

// execTime is how long the unit's command took, by systemd's clock.
func execTime(t *testing.T, h *lab.Host, unit string) time.Duration {
	t.Helper()
	said := labtest.Run(t, h, 0, "systemctl show -p ExecMainStartTimestampMonotonic -p ExecMainExitTimestampMonotonic --value "+unit)
	fields := strings.Fields(said)
	if len(fields) != 2 {
		t.Fatalf("the times of %s are %q", unit, said)
	}
	start, err := strconv.ParseInt(fields[0], 10, 64)
	labtest.NoError(t, err)
	end, err := strconv.ParseInt(fields[1], 10, 64)
	labtest.NoError(t, err)
	return time.Duration(end-start) * time.Microsecond
}

// cpuTime is what the unit took of the processor, which is shared at a boot.
func cpuTime(t *testing.T, h *lab.Host, unit string) time.Duration {
	t.Helper()
	ns, err := strconv.ParseInt(strings.TrimSpace(labtest.Run(t, h, 0, "systemctl show -p CPUUsageNSec --value "+unit)), 10, 64)
	labtest.NoError(t, err)
	return time.Duration(ns)
}

const (
	// maxBootCost is what a run on a complete host may take on a real processor.
	maxBootCost = 20 * time.Millisecond
	// measure prints the least time, in microseconds, that a command took.
	measure = `least=; for i in 1 2 3 4 5 6 7; do a=${EPOCHREALTIME/./}; %s >/dev/null 2>&1; b=${EPOCHREALTIME/./}
if [ -z "$least" ] || [ $((b - a)) -lt $least ]; then least=$((b - a)); fi; done; echo $least`
)

// quick compares a run on a complete host with the bare start of the same
// binary: an emulated processor is ten and more times slower than a real one.
func quick(t *testing.T, l *lab.Lab, h *lab.Host) {
	t.Helper()
	took := func(command string) time.Duration {
		us, err := strconv.ParseInt(strings.TrimSpace(labtest.Run(t, h, 0, fmt.Sprintf(measure, command))), 10, 64)
		labtest.NoError(t, err)
		return time.Duration(us) * time.Microsecond
	}
	own, start, nothing := took("firstboot run"), took("firstboot version"), took("/bin/true")
	t.Logf("at rest (%s): firstboot run %s, firstboot version %s, /bin/true %s", l.Accel, own, start, nothing)
	if own > 2*start {
		t.Errorf("firstboot run took %s, the start of the binary alone %s", own, start)
	}
	if l.Accel == machine.KVM && own > maxBootCost {
		t.Errorf("firstboot run took %s, want at most %s", own, maxBootCost)
	}
}

func (r *reboot) askWithoutEtcd(t *testing.T) {
	one, two := r.l.Hosts[0], r.l.Hosts[1]
	labtest.Contains(t, labtest.Run(t, two, 11, "firstboot status"), "unknown", "etcd at "+r.l.Etcd.Endpoint)
	labtest.Contains(t, labtest.Run(t, one, 0, "systemctl status --no-pager docker; true"), "wait-plugin")
	labtest.Contains(t, labtest.Run(t, one, 0, "journalctl --no-pager -b -u docker"), "waiting for")

	labtest.Run(t, two, 0, "firstboot logs --file /root/report.tar.gz")
	labtest.Contains(t, labtest.Run(t, two, 0, "stat -c %a /root/report.tar.gz; tar tzf /root/report.tar.gz"), "600", "firstboot.log", "status.json", "journal.json")
	report := labtest.Run(t, two, 0, "tar xzOf /root/report.tar.gz; firstboot logs; firstboot status -o json; firstboot config; true")
	labtest.NotContains(t, report, secret)
	labtest.Contains(t, report, "firstboot: complete")
	labtest.Contains(t, labtest.Run(t, two, 0, "cat /etc/firstboot/config.yaml"), secret) // it could have been shown
}

func (r *reboot) back(t *testing.T) {
	one := r.l.Hosts[0]
	late := time.Until(r.began.Add(etcdLate))
	t.Logf("etcd stays away for %s more", max(0, late).Round(time.Second))
	time.Sleep(late)
	labtest.NoError(t, r.l.Etcd.Start(labtest.Context(t)))
	began := time.Now()
	ctx := labtest.Within(t, joinTime)
	labtest.NoError(t, one.Wait(ctx, "the container to run again", func(ctx context.Context) error {
		out, err := one.Output(ctx, "docker inspect -f '{{.State.Running}}' "+r.pair.one.Name)
		if err == nil && strings.TrimSpace(out) != "true" {
			err = fmt.Errorf("running is %s", strings.TrimSpace(out))
		}
		return err
	}))
	t.Logf("its container runs %s after etcd was there", time.Since(began).Round(time.Second))
	summary, err := r.pair.two.Ping(ctx, address(t, r.pair.one))
	t.Logf("reached %s after: %s", time.Since(began).Round(time.Second), summary)
	labtest.NoError(t, err)
	labtest.Contains(t, labtest.Run(t, one, 0, "docker run --rm --name new-one --network firstboot "+golden.PingImage+" ifconfig"), "cali0")
	labtest.Contains(t, labtest.Run(t, one, 0, "firstboot status"), "complete")
	labtest.Equal(t, "what firstboot keeps", r.files, labtest.Run(t, one, 0, notes))
}

func upgraded(t *testing.T, h *lab.Host) {
	before := labtest.Run(t, h, 0, notes)
	labtest.Run(t, h, 0, "install -m 755 "+nextBinary+" /usr/bin/firstboot")
	said := labtest.Run(t, h, 0, "firstboot status")
	t.Logf("%s", said)
	labtest.Contains(t, said, "complete", "this is firstboot "+nextVersion, "completed this host; firstboot run --force applies the difference")
	labtest.Contains(t, labtest.Run(t, h, 0, "firstboot run"), "complete (not re-checked)")
	labtest.Equal(t, "what firstboot keeps", before, labtest.Run(t, h, 0, notes))
}

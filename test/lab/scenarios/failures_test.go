//go:build lab

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/parts"
)

const (
	// overlapping sets a pool inside the hosts' own network, on the kernel command
	// line of one machine.
	overlapping = " firstboot.pool.cidr=10.123.0.128/25"
	// lockTimeout is the lease of the pool's lock, and some time for etcd (3.4
	// checks leases every half second) and this test to detect its end.
	lockTimeout = 30*time.Second + 5*time.Second
)

// failures are two hosts that download their artifacts over HTTP.
type failures struct {
	l                  *lab.Lab
	one, two           *lab.Host
	mirror             *mirror
	right, wrong       string // digests of calicoctl
	rpmRight, rpmWrong string
}

// TestFailureScenarios tests wrong files, an overlapping network, a node name that
// is in use, and power cuts.
func TestFailureScenarios(t *testing.T) {
	p, err := parts.Build(labtest.Context(t), parts.Options{Log: t.Logf})
	labtest.NoError(t, err)
	x := &failures{mirror: newMirror(p)}
	x.right, x.wrong = digests(t, p.Calicoctl)
	x.rpmRight, x.rpmWrong = digests(t, p.MinionsRPM)
	x.l = labtest.New(t, lab.Options{Config: func(c *lab.Config) {
		c.NoBundle()
		c.Set("calicoctl", "url", mirrorURL("/calicoctl"))
		c.Set("calicoctl", "sha256", x.right)
		c.Set("minions", "url", mirrorURL("/eru-minions.rpm"))
		c.Set("minions", "sha256", x.rpmRight)
	}})
	x.one, x.two = x.l.Hosts[0], x.l.Hosts[1]
	_, stop, err := x.l.Net.Serve(mirrorPort, x.mirror)
	labtest.NoError(t, err)
	defer func() { labtest.NoError(t, stop()) }()

	x.mirror.set(true, 0)
	x.two.Machine().Append += overlapping
	labtest.NoError(t, x.l.Boot(labtest.Context(t)))
	labtest.Step(t, "the pool overlaps the host's network: preflight refuses, nothing is changed", x.overlap)
	labtest.Step(t, "Docker needs a restart but runs a foreign container: preflight refuses", x.foreignContainer)
	labtest.Step(t, "a wrong sha256: both digests are reported, nothing is installed", x.wrongDigest)
	x.mirror.set(false, 2<<20)
	labtest.Step(t, "the right file: power cut during the download", x.powerCutDuringDownload)
	labtest.Step(t, "the download is resumed: power cut between two stages", x.powerCutBetweenStages)
	labtest.Step(t, "power cut while the pool's lock is held: others wait no longer than its lease", x.powerCutUnderLock)
	labtest.Step(t, "a host with three containers loses power twice: no endpoint without a container is left", x.powerCutWithContainers)
	labtest.Step(t, "the node name is used by another address: preflight refuses, both addresses are reported", x.nameTaken)
	labtest.Step(t, "the same machine is reinstalled: it joins", x.reinstalled)
}

// waitForExit waits until firstboot.service has ended, and checks its exit code.
func waitForExit(t *testing.T, h *lab.Host, code int) {
	t.Helper()
	ctx := labtest.Within(t, joinTimeout)
	labtest.NoError(t, h.WaitUp(ctx))
	labtest.NoError(t, h.Wait(ctx, "the end of the run", func(ctx context.Context) error {
		out, err := h.Output(ctx, "systemctl show -p ActiveState --value firstboot")
		if state := strings.TrimSpace(out); err == nil && state != "failed" && state != "active" {
			err = errors.New("firstboot.service is " + state)
		}
		return err
	}))
	labtest.Equal(t, "the run's exit code", fmt.Sprintln(code), labtest.Run(t, h, 0, "systemctl show -p ExecMainStatus --value firstboot"))
}

// loginScreen returns the text on the host's login screen, and checks that the
// message of the day is the same.
func loginScreen(t *testing.T, h *lab.Host) string {
	t.Helper()
	issue := labtest.Run(t, h, 0, "cat /run/issue.d/firstboot.issue")
	labtest.Equal(t, "the login screen and the message of the day", labtest.Run(t, h, 0, "cat /run/motd.d/firstboot"), issue)
	t.Logf("login screen:\n%s", issue)
	return issue
}

func (x *failures) overlap(t *testing.T) {
	waitForExit(t, x.two, 4)
	for _, output := range []string{loginScreen(t, x.two), labtest.Run(t, x.two, 4, "firstboot status"), x.two.Console.Text()} {
		labtest.Contains(t, output, "cidr-overlap", "pool.cidr 10.123.0.128/25", "10.123.0.0/24 on eth0", "choose another pool.cidr", "nothing was changed")
	}
	labtest.NotContains(t, labtest.Run(t, x.two, 0, "systemctl list-units --no-legend --state=active '*.target'"), "firstboot-complete.target")
	labtest.Equal(t, "changed files that are not firstboot's", "", labtest.Run(t, x.two, 0, changedSince))
}

// changedSince lists the files that were written since the start of the run,
// except logs, and the state that Docker wrote when it started.
const changedSince = `touch -d "$(systemctl show -p ExecMainStartTimestamp --value firstboot)" /run/began
find / -xdev -newer /run/began ! -type d ! -path '/var/lib/firstboot/*' ! -path '/var/log/*' ! -path '/var/lib/docker/*' ! -path '/var/lib/containerd/*' ! -path '/etc/docker/key.json' ! -path '/var/lib/systemd/*' ! -path '/tmp/*'`

func (x *failures) foreignContainer(t *testing.T) {
	labtest.Run(t, x.two, 0, `mkdir -p /etc/docker && echo '{"cluster-store": "etcd://10.123.0.1:2379/elsewhere"}' >/etc/docker/daemon.json && systemctl restart docker`)
	labtest.Run(t, x.two, 0, "docker run -d --name foreign "+golden.PingImage+" sleep 100000")
	const inspect = "docker inspect -f '{{.State.Running}} {{.State.StartedAt}} {{.RestartCount}}' foreign; cat /etc/docker/daemon.json"
	before := labtest.Run(t, x.two, 0, inspect)
	labtest.Contains(t, before, "true")
	output := labtest.Run(t, x.two, 4, "firstboot run")
	t.Logf("%s", output)
	labtest.Contains(t, output, "foreign-containers: Docker: has the cluster-store etcd://10.123.0.1:2379/elsewhere and runs foreign", "docker.restart: allow")
	labtest.Equal(t, "the foreign container, and Docker's configuration", before, labtest.Run(t, x.two, 0, inspect))
}

func (x *failures) wrongDigest(t *testing.T) {
	waitForExit(t, x.one, 1)
	for _, output := range []string{loginScreen(t, x.one), labtest.Run(t, x.one, 1, "firstboot status"), x.one.Console.Text()} {
		labtest.Contains(t, output, "cannot use calicoctl from "+mirrorURL("/calicoctl"), x.right, x.wrong, x.rpmRight, x.rpmWrong, "correct the url, or the sha256")
	}
	labtest.Equal(t, "installed files", "", labtest.Run(t, x.one, 0, "ls -d /usr/bin/calicoctl /usr/bin/eru-minions 2>/dev/null; true"))
	labtest.Equal(t, "remains of the wrong files", "", labtest.Run(t, x.one, 0, "find / -xdev -size +1M -newer /proc/1 ! -path '/var/log/*' ! -path '/var/lib/docker/*' ! -path '/var/lib/containerd/*'"))
}

func (x *failures) powerCutDuringDownload(t *testing.T) {
	labtest.NoError(t, x.two.Reinstall(labtest.Context(t)))
	x.two.Machine().Append = strings.Replace(x.two.Machine().Append, overlapping, "", 1)
	labtest.NoError(t, x.one.Kill())
	labtest.NoError(t, x.one.Boot(labtest.Context(t)))
	const enough = 20 << 20 // of 43 MB, at 2 MB/s
	labtest.NoError(t, x.one.Wait(labtest.Within(t, 5*time.Minute), "the download of half of calicoctl", func(context.Context) error {
		if n := x.mirror.sentOf("/calicoctl"); n < enough {
			return fmt.Errorf("%d bytes were sent", n)
		}
		return nil
	}))
	labtest.NoError(t, x.one.Kill())
	x.mirror.set(false, 8<<20)
}

func (x *failures) powerCutBetweenStages(t *testing.T) {
	from := consoleLength(x.one)
	labtest.NoError(t, x.one.Boot(labtest.Context(t)))
	labtest.NoError(t, x.one.WaitUp(labtest.Context(t)))
	t.Logf("%s", console(t, x.one, from, 5*time.Minute, "firstboot: calicoctl", "done"))
	labtest.NoError(t, x.one.Kill())
	t.Logf("range requests: %q", x.mirror.resumed())
	if !regexp.MustCompile(`/calicoctl bytes=[1-9]\d*-`).MatchString(strings.Join(x.mirror.resumed(), "\n")) {
		t.Error("the download of calicoctl was not resumed")
	}
}

// poolLock is the prefix of the etcd keys of the hosts that wait for the pool's lock.
const poolLock = "/firstboot/v1/locks/pool/"

var ownerOf = regexp.MustCompile(`"owner":"(host\d)"`)

func (x *failures) powerCutUnderLock(t *testing.T) {
	ctx := labtest.Within(t, joinTimeout)
	labtest.NoError(t, x.l.Boot(ctx))
	var holder string
	labtest.NoError(t, x.one.Wait(ctx, "a holder of the pool's lock", func(ctx context.Context) error {
		queue, err := x.l.Etcd.Range(ctx, poolLock)
		if found := ownerOf.FindStringSubmatch(queue); err == nil && found != nil {
			holder = found[1]
			return nil
		}
		return errors.Join(err, errors.New("nobody holds the lock"))
	}))
	dead, other := x.one, x.two
	if holder == x.two.Name {
		dead, other = x.two, x.one
	}
	labtest.NoError(t, dead.Kill())
	start := time.Now()
	labtest.NoError(t, other.Wait(labtest.Within(t, lockTimeout), "the end of the lock of "+holder, func(ctx context.Context) error {
		queue, err := x.l.Etcd.Range(ctx, poolLock)
		if err == nil && strings.Contains(queue, `"`+holder+`"`) {
			err = errors.New("it still exists: " + queue)
		}
		return err
	}))
	t.Logf("power cut of %s while it held the pool's lock, which ended %s later", holder, time.Since(start).Round(time.Second))
	complete(t, other)
	t.Logf("%s is complete %s after the power cut", other.Name, time.Since(start).Round(time.Second))
	labtest.NoError(t, dead.Boot(ctx))
	complete(t, dead)
	for _, h := range x.l.Hosts {
		labtest.Run(t, h, 0, "firstboot status")
	}
	a, err := x.one.StartContainer(ctx, "one")
	labtest.NoError(t, err)
	b, err := x.two.StartContainer(ctx, "two")
	labtest.NoError(t, err)
	summary, err := a.Ping(ctx, b.Address)
	labtest.NoError(t, err)
	t.Logf("container to container: %s", summary)
}

func (x *failures) nameTaken(t *testing.T) {
	arguments := x.two.Machine().Append
	labtest.NoError(t, x.two.Reinstall(labtest.Context(t)))
	x.two.Machine().Append = strings.Replace(arguments, "systemd.hostname=host2", "systemd.hostname=host1", 1)
	labtest.NoError(t, x.two.Boot(labtest.Context(t)))
	waitForExit(t, x.two, 4)
	labtest.Contains(t, loginScreen(t, x.two), "node-name-taken: node host1: at "+x.one.Address.String(), "this host's "+x.two.Address.String(), "calicoctl delete node host1")
	labtest.Equal(t, "changed files that are not firstboot's", "", labtest.Run(t, x.two, 0, changedSince))
	labtest.Run(t, x.one, 0, "firstboot status")
	x.two.Machine().Append = arguments
}

func (x *failures) reinstalled(t *testing.T) {
	before := calicoctl(t, x.l, "", "get", "nodes", "-o", "wide")
	labtest.NoError(t, x.two.Reinstall(labtest.Context(t)))
	start := time.Now()
	labtest.NoError(t, x.two.Boot(labtest.Context(t)))
	complete(t, x.two)
	t.Logf("complete %s after power-on", time.Since(start).Round(time.Second))
	labtest.Equal(t, "the cluster's nodes", before, calicoctl(t, x.l, "", "get", "nodes", "-o", "wide"))
	c, err := x.two.StartContainer(labtest.Within(t, joinTimeout), "again")
	labtest.NoError(t, err)
	other := lab.Container{Host: x.one, Name: "one"}
	_, err = other.Ping(labtest.Within(t, commandTimeout), c.Address)
	labtest.NoError(t, err)
}

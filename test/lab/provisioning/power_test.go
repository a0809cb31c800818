//go:build lab

package provisioning

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

const (
	// etcdDelay is the time between the power-on and the start of etcd.
	etcdDelay = 2 * time.Minute
	// restartTimeout limits the time until containers run again after a boot.
	restartTimeout = 10 * time.Minute
)

// always are containers that Docker starts at each boot.
var always = []string{"always-1", "always-2", "always-3"}

// powerCuts are two hosts of a mixed cluster. The one with the local network has
// containers, and loses power.
type powerCuts struct {
	e             *environment
	local, global *lab.Host

	other lab.Container // on the host with the global network
}

// reachEachOther starts the containers and sends pings in both directions.
func (p *powerCuts) reachEachOther(t *testing.T) {
	ctx := labtest.Within(t, 20*time.Minute)
	var err error
	p.other, err = p.global.StartContainer(ctx, "on-global")
	labtest.NoError(t, err)
	for _, name := range always {
		c, err := p.local.StartContainer(ctx, name, "--restart=always")
		labtest.NoError(t, err)
		p.ping(t, c, p.other)
		p.ping(t, p.other, c)
	}
}

func (p *powerCuts) ping(t *testing.T, from, to lab.Container) {
	t.Helper()
	summary, err := from.Ping(labtest.Within(t, restartTimeout), to.Address)
	labtest.NoError(t, err)
	t.Logf("%s on %s -> %s on %s: %s", from.Name, from.Host.Name, to.Name, to.Host.Name, summary)
}

// wantContainers waits until the containers run and are reached, and checks that
// etcd has no other endpoint of the host.
func (p *powerCuts) wantContainers(t *testing.T) {
	start := time.Now()
	ctx := labtest.Within(t, restartTimeout)
	labtest.NoError(t, p.local.WaitRunning(ctx, always...))
	for _, name := range always {
		c, err := p.local.Container(ctx, name)
		labtest.NoError(t, err)
		// Containers run before calico-node has its routes again.
		labtest.NoError(t, p.global.Wait(ctx, "an answer of "+name, func(ctx context.Context) error {
			_, err := p.global.Output(ctx, "docker exec "+p.other.Name+" ping -c 1 -W 2 "+c.Address.String())
			return err
		}))
		p.ping(t, p.other, c)
	}
	t.Logf("the containers run and answer after %s", time.Since(start).Round(time.Second))
	want, err := p.local.EndpointsOf(ctx, always...)
	labtest.NoError(t, err)
	got, err := p.local.Endpoints(ctx)
	labtest.NoError(t, err)
	labtest.Equal(t, "the endpoints of "+p.local.Name, strings.Join(want, "\n"), strings.Join(got, "\n"))
}

// pool returns the pool with its revision in etcd.
func (p *powerCuts) pool(t *testing.T) string {
	t.Helper()
	return p.e.calicoctl(t, "get", "ippool", lab.Network, "-o", "yaml")
}

// withoutEtcd cuts the power. etcd runs again some time after the boot.
func (p *powerCuts) withoutEtcd(t *testing.T) {
	pool := p.pool(t)
	// Docker does not sync the state of a container: one that the disk has as
	// "created" does not start again.
	labtest.Run(t, p.local, 0, "sync")
	labtest.NoError(t, p.local.Kill())
	labtest.NoError(t, p.e.lab.Etcd.Stop())
	start := time.Now()
	labtest.NoError(t, p.local.Boot(labtest.Context(t)))
	labtest.NoError(t, p.local.WaitUp(labtest.Context(t)))
	labtest.NoError(t, p.local.Wait(labtest.Within(t, etcdDelay), "Docker to wait for the plugin", func(ctx context.Context) error {
		out, err := p.local.Output(ctx, "journalctl -b -u docker --no-pager -o cat")
		if err == nil && !strings.Contains(out, "waiting for the network plugin") {
			err = errors.New("it does not: " + out)
		}
		return err
	}))
	p.wantNotChecked(t)
	time.Sleep(time.Until(start.Add(etcdDelay)))
	labtest.NoError(t, p.e.lab.Etcd.Start(labtest.Context(t)))
	p.wantContainers(t)
	labtest.Equal(t, "the pool", pool, p.pool(t))
}

// wantNotChecked checks that firstboot reached its target without a run.
func (p *powerCuts) wantNotChecked(t *testing.T) {
	t.Helper()
	labtest.NoError(t, p.local.Wait(labtest.Within(t, 5*time.Minute), "firstboot-complete.target", targetReached(p.local)))
	labtest.Contains(t, labtest.Run(t, p.local, 0, "journalctl --no-pager -b -u firstboot -o cat"), "complete (not re-checked)")
}

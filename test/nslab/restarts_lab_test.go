//go:build lab

package nslab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab/parts"
)

const (
	// disturbances is how many restarts and kills a host gets.
	disturbances = 8
	// seed makes a failed order repeatable.
	seed = 20
)

// disturbance is a restart or a kill of a part of a host.
type disturbance struct {
	name string
	do   func(context.Context, *Host) error
}

func kill(service string) disturbance {
	return disturbance{"kill " + service, func(ctx context.Context, h *Host) error {
		if err := h.Kill(ctx, service); err != nil {
			return err
		}
		if service == dockerService {
			return h.waitDocker(ctx)
		}
		return nil
	}}
}

// TestRestartsWhileContainersStart kills and restarts the adapter, the plugin and
// Docker in a random order while containers start. A start may fail meanwhile. The
// containers that run keep their network, new ones start, and in the end nothing is
// left in etcd that has no container.
func TestRestartsWhileContainersStart(t *testing.T) {
	t.Parallel()
	l := open(t, parts.Etcd35)
	h := l.AddHost(parts.Docker29, Local)
	l.AddHost(parts.Docker26, Local)
	boot(t, l)
	createNetworks(t, l)
	runContainers(t, l)
	pingAll(t, l)
	all := []disturbance{
		kill(adapterService), kill(pluginService), kill(dockerService),
		{"restart of Docker", func(ctx context.Context, h *Host) error { return h.RestartDocker(ctx) }},
	}
	starts := startContainers(t.Context(), h)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // the order must be repeatable
	for n := range disturbances {
		d := all[n%len(all)]
		if n >= len(all) { // each once, then any
			d = all[random.IntN(len(all))]
		}
		step(t, d.name, func() error { return d.do(t.Context(), h) })
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	started, failed := starts.stop()
	t.Logf("%d containers started, %d failed", len(started), len(failed))
	if len(started) == 0 {
		t.Errorf("no container started: %v", errors.Join(failed...))
	}
	step(t, "a new container", func() error {
		return eventually(t.Context(), 20*time.Second, "a container that starts", func() error { return h.RunContainer(t.Context(), "new") })
	})
	pingAll(t, l)
	step(t, "end of tasks that Docker lost", func() error { return h.RemoveLostTasks(t.Context()) })
	step(t, "no endpoint without a container", func() error { return l.WaitEndpoints(t.Context()) })
	step(t, "last restart of Docker", func() error { return h.RestartDocker(t.Context()) })
	step(t, "no endpoint without a container", func() error { return l.WaitEndpoints(t.Context()) })
	pingAll(t, l)
}

// starter starts containers one after the other and removes them again.
type starter struct {
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	started []string
	failed  []error
}

func startContainers(ctx context.Context, h *Host) *starter {
	s := &starter{}
	var running context.Context
	running, s.cancel = context.WithCancel(ctx)
	s.ended.Go(func() {
		pause := time.NewTicker(200 * time.Millisecond) // Docker may refuse at once
		defer pause.Stop()
		for n := 0; running.Err() == nil; n++ {
			<-pause.C
			name := fmt.Sprintf("start%d", n)
			// Started commands end: a killed docker run would be another test.
			if err := h.RunContainer(ctx, name); err != nil {
				s.failed = append(s.failed, err)
			} else {
				s.started = append(s.started, name)
			}
			if err := h.RemoveContainer(ctx, name); err != nil && !strings.Contains(err.Error(), "No such container") {
				s.failed = append(s.failed, err)
			}
		}
	})
	return s
}

func (s *starter) stop() (started []string, failed []error) {
	s.cancel()
	s.ended.Wait()
	return s.started, s.failed
}

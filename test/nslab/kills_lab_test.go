//go:build lab

package nslab

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab/parts"
)

// startLimit is how long the start of a container may take after a kill.
const startLimit = 20 * time.Second

// TestKillsInsideCalls kills the adapter, the plugin and Docker in the middle of
// CreateEndpoint and of Join, before and after the plugin executes the call. Docker
// then does not know whether there is an endpoint.
func TestKillsInsideCalls(t *testing.T) {
	t.Parallel()
	l := open(t, parts.Etcd35)
	h := l.AddHost(parts.Docker29, Local)
	l.AddHost(parts.Docker26, Local)
	boot(t, l)
	createNetworks(t, l)
	runContainers(t, l)
	pingAll(t, l)
	for _, service := range []string{adapterService, pluginService, dockerService} {
		for _, method := range []string{"CreateEndpoint", "Join"} {
			for _, after := range []bool{false, true} {
				killInside(t, l, h, service, method, after)
			}
		}
		if service == adapterService {
			removeLeftOver(t, h)
		}
	}
	pingAll(t, l)
}

// removeLeftOver restarts Docker, so that the interfaces are removed that the plugin
// made after the end of their endpoint.
func removeLeftOver(t *testing.T, h *Host) {
	t.Helper()
	if links, err := h.Links(); err != nil || len(links) != 3 {
		t.Errorf("interfaces of one container and two left-over ones are wanted, the host has %q (%v)", links, err)
	}
	step(t, "restart of Docker", func() error { return h.RestartDocker(t.Context()) })
	step(t, "no interface without an endpoint", func() error { return h.WaitLinks(t.Context()) })
}

// killInside kills a service while a container starts. Afterwards etcd has no
// endpoint without a container, and a new container starts.
func killInside(t *testing.T, l *Lab, h *Host, service, method string, after bool) {
	t.Helper()
	when := "before"
	if after {
		when = "after"
	}
	name := fmt.Sprintf("kill of %s %s %s", service, when, method)
	step(t, name, func() error {
		gate, err := h.OpenGate(method, after)
		if err != nil {
			return err
		}
		ran := make(chan error, 1)
		go func() { ran <- h.RunContainer(t.Context(), "killed") }()
		if err := gate.Wait(); err != nil {
			return err
		}
		if err := kill(service).do(t.Context(), h); err != nil {
			return err
		}
		if service == pluginService {
			gate.Release(false)
			err = <-ran
		} else { // Docker ends its attempt before the plugin continues
			err = <-ran
			gate.Release(true)
		}
		if err == nil {
			return errors.New("the container started")
		}
		if err := h.RemoveContainer(t.Context(), "killed"); err != nil {
			return err
		}
		return gate.Close()
	})
	step(t, "  no endpoint without a container", func() error { return l.WaitEndpoints(t.Context()) })
	start := time.Now()
	step(t, "  a new container", func() error { return h.RunContainer(t.Context(), "new") })
	if took := time.Since(start); took > startLimit {
		t.Errorf("after the %s a container started in %s", name, took)
	}
	step(t, "  its end", func() error { return h.RemoveContainer(t.Context(), "new") })
}

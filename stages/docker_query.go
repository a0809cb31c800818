package stages

import (
	"context"
	"fmt"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// docker returns the client of the host's Docker. There is one, because a client
// queries Docker's API version once.
func (e *Env) docker() *dockerd.Client {
	e.client.Do(func() { e.dockerd = dockerd.New(e.Host) })
	return e.dockerd
}

// dockerActive adds a difference unless Docker's unit is active. It queries
// systemd, because a request to Docker's socket would start Docker.
func (e *Env) dockerActive(ctx context.Context) (engine.CheckResult, error) {
	var f engine.CheckResult
	unit, err := e.Host.Systemd().Unit(ctx, units.Docker)
	if err != nil {
		return f, err
	}
	if unit.Active != "active" {
		f.Add(engine.Difference{Object: units.Docker, Actual: e.unitState(ctx, units.Docker, unit), Expected: "active", Fix: "journalctl -u docker"})
	}
	return f, nil
}

// startDocker queues the start of Docker and returns a *engine.Wait until its unit is
// active, so that the wait is visible.
func (e *Env) startDocker(ctx context.Context) error {
	unit, err := e.Host.Systemd().Unit(ctx, units.Docker)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	switch unit.Active {
	case "active":
		return nil
	case "activating", "reloading", "deactivating":
	default:
		if err := e.Host.Systemd().Start(ctx, units.Docker); err != nil {
			return &engine.Retry{Err: err}
		}
	}
	return &engine.Wait{For: "Docker to start", Err: fmt.Errorf("%s is %s", units.Docker, e.unitState(ctx, units.Docker, unit))}
}

// foreignContainers lists the running containers that firstboot did not create.
func (e *Env) foreignContainers(ctx context.Context) ([]string, error) {
	list, err := e.docker().RunningContainers(ctx)
	if err != nil {
		return nil, err
	}
	var foreign []string
	for _, c := range list {
		if c.Name() != calico.NodeContainer && c.Labels[probeLabel] == "" {
			foreign = append(foreign, c.Name())
		}
	}
	return foreign, nil
}

// checkImage adds a difference unless Docker has the node image, and the image
// comes from the pinned archive.
func (e *Env) checkImage(ctx context.Context, f *engine.CheckResult) error {
	id, err := e.imageID(ctx)
	if err != nil {
		return err
	}
	object := "image " + e.Config.Node.Image
	if id == "" {
		f.Add(engine.Difference{Object: object, Actual: "missing", Expected: "loaded"})
		return nil
	}
	e.checkOrigin(imageName, object, id, f)
	return nil
}

// imageID returns the ID of the node image in Docker, "" if it is missing.
func (e *Env) imageID(ctx context.Context) (string, error) {
	image, err := e.docker().Image(ctx, e.Config.Node.Image)
	if dockerd.NotFound(err) {
		return "", nil
	}
	return image.ID, err
}

// poolNetwork returns the Docker network over the pool, nil if it does not exist. For a
// global network it returns an *engine.Wait if etcd cannot be reached, because
// Docker's list is then incomplete.
func (e *Env) poolNetwork(ctx context.Context) (*dockerd.Network, error) {
	name := e.Config.Pool.NetworkName()
	if e.decidedMode().local() {
		return e.docker().ListedNetwork(ctx, name)
	}
	network, err := e.docker().Network(ctx, name)
	if err != nil || network != nil {
		return network, err
	}
	return nil, e.withEtcd(ctx, func(context.Context, *cluster.Client) error { return nil })
}

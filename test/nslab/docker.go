package nslab

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/test/lab/parts"
	"github.com/projecteru2/firstboot/units"
)

const (
	// dockerTimeout limits the start of Docker.
	dockerTimeout = 60 * time.Second
	// nodeTimeout limits the wait until calico-node is ready.
	nodeTimeout = 90 * time.Second
	// pingTimeout limits the wait for the first answer to a ping: BGP needs some
	// seconds.
	pingTimeout = 60 * time.Second
	// pingImage is an image with a static busybox.
	pingImage = "firstboot-lab/ping:latest"
)

// startDocker starts containerd and Docker.
func (h *Host) startDocker(ctx context.Context) error {
	if err := h.start(service{name: containerdService, args: []string{"containerd"}}); err != nil {
		return err
	}
	if err := h.waitSocket(ctx, "/run/containerd/containerd.sock"); err != nil {
		return err
	}
	return h.startDockerd(ctx)
}

func (h *Host) startDockerd(ctx context.Context) error {
	args := []string{"dockerd", "--containerd", "/run/containerd/containerd.sock", "--cgroup-parent", path.Join("/", h.lab.name, h.Name)}
	if err := h.start(service{name: dockerService, pre: waitPlugin, args: args}); err != nil {
		return err
	}
	return h.waitDocker(ctx)
}

// Upgrade replaces the host's Docker by a newer one, like a package does: its
// containers stop, and start again with the new one.
func (h *Host) Upgrade(ctx context.Context, version parts.DockerVersion) error {
	for _, name := range []string{nodeService, dockerService, containerdService} {
		if err := h.Stop(ctx, name); err != nil {
			return err
		}
	}
	h.Docker = h.lab.programs.engines[version]
	if err := h.startDocker(ctx); err != nil {
		return err
	}
	return h.startNode()
}

// RestartDocker stops Docker with SIGTERM and starts it again.
func (h *Host) RestartDocker(ctx context.Context) error {
	if err := h.Stop(ctx, dockerService); err != nil {
		return err
	}
	return h.startDockerd(ctx)
}

func (h *Host) waitSocket(ctx context.Context, socket string) error {
	return eventually(ctx, dockerTimeout, socket+" on "+h.Name, func() error {
		_, err := h.Run(ctx, "test", "-S", socket)
		return err
	})
}

// waitDocker waits until this host's version of Docker answers.
func (h *Host) waitDocker(ctx context.Context) error {
	return eventually(ctx, dockerTimeout, "Docker on "+h.Name, func() error {
		version, err := h.Run(ctx, "docker", "version", "--format", "{{.Server.Version}}")
		if err == nil && !strings.HasPrefix(version, string(h.Docker.Version)+".") {
			return fatalError{fmt.Errorf("it is Docker %s, want %s", version, h.Docker.Version)}
		}
		return err
	})
}

// loadImages loads the image of calico-node and the ping image.
func (h *Host) loadImages(ctx context.Context) error {
	if _, err := h.Run(ctx, "docker", "load", "-qi", nodeImageFile); err != nil {
		return err
	}
	_, err := h.Run(ctx, "sh", "-euc", `mkdir -p /tmp/ping/bin && cp /usr/bin/busybox /tmp/ping/bin/
for applet in cat ip ping sh sleep; do ln -sf busybox /tmp/ping/bin/$applet; done
tar -C /tmp/ping -c . | docker import - "$1"`, "sh", pingImage)
	return err
}

// startNode starts calico-node as its unit does.
func (h *Host) startNode() error {
	node := calico.Node{Config: h.config, Name: h.Name, Address: h.Address}
	docker := "docker --config=" + units.DockerConfigDir
	return h.start(service{
		name: nodeService, pre: docker + " rm -f " + calico.NodeContainer + " || sleep 1", // Docker may not run
		args: append(append(strings.Fields(docker), "run"), node.Arguments()...),
	})
}

// waitNode waits until calico-node is ready.
func (h *Host) waitNode(ctx context.Context) error {
	return eventually(ctx, nodeTimeout, "calico-node on "+h.Name, func() error {
		return calico.Ready(ctx, dockerd.New(h.machine()))
	})
}

// createNetwork creates Docker's network and returns its ID.
func (h *Host) createNetwork(ctx context.Context) (string, error) {
	return dockerd.New(h.machine()).CreateNetwork(ctx, Network, minions.NetworkDriver, minions.IPAMDriver, Pool)
}

// RunContainer starts a container on the network that sleeps. It is started again
// with Docker. It ignores SIGTERM, so Docker kills it after a second.
func (h *Host) RunContainer(ctx context.Context, name string) error {
	_, err := h.Run(ctx, "docker", "run", "-d", "--restart=always", "--stop-timeout=1", "--name", name, "--network", Network, pingImage, "sleep", "1000000")
	return err
}

// RemoveContainer removes a container.
func (h *Host) RemoveContainer(ctx context.Context, name string) error {
	_, err := h.Run(ctx, "docker", "rm", "-f", name)
	return err
}

// RemoveLostTasks ends the tasks of containerd that Docker does not know. A Docker
// that is killed while runc starts a container forgets the task, whose process keeps
// the interface.
//
// containerd's shim may end before it answers, so that a removal that worked fails:
// only the list of tasks counts.
func (h *Host) RemoveLostTasks(ctx context.Context) error {
	return eventually(ctx, 20*time.Second, "the end of lost tasks", func() error {
		_, err := h.Run(ctx, "sh", "-euc", `lost() {
	known=$(docker ps -q --no-trunc)
	for id in $(ctr -n moby tasks ls -q); do
		case "$known" in *"$id"*) ;; *) echo "$id" ;; esac
	done
}
for id in $(lost); do
	ctr -n moby tasks rm -f "$id" >&2 || true
done
left=$(lost)
test -z "$left"`)
		return err
	})
}

// endpoints returns the IDs of the endpoints of running containers.
func (h *Host) endpoints(ctx context.Context) ([]string, error) {
	out, err := h.Run(ctx, "docker", "ps", "-q")
	if err != nil || out == "" {
		return nil, err
	}
	format := fmt.Sprintf(`{{with index .NetworkSettings.Networks %q}}{{.EndpointID}}{{end}}`, Network)
	out, err = h.Run(ctx, append([]string{"docker", "inspect", "--format", format}, strings.Fields(out)...)...)
	return strings.Fields(out), err
}

// address returns the address of a running container's cali0.
func (h *Host) address(ctx context.Context, container string) (string, error) {
	out, err := h.Run(ctx, "docker", "exec", container, "ip", "-4", "-o", "addr", "show", "cali0")
	if err != nil {
		return "", err
	}
	_, after, found := strings.Cut(out, "inet ")
	address, _, _ := strings.Cut(after, "/")
	if !found || address == "" {
		return "", fmt.Errorf("cali0 of %s has no address: %s", container, out)
	}
	return address, nil
}

// Ping sends five pings from a container to one of another host. All must be
// answered, once the first one was.
func (h *Host) Ping(ctx context.Context, container string, to *Host, target string) error {
	var address string
	err := eventually(ctx, pingTimeout, fmt.Sprintf("a ping from %s on %s to %s on %s", container, h.Name, target, to.Name), func() error {
		var err error
		if address, err = to.address(ctx, target); err != nil {
			return err
		}
		_, err = h.Run(ctx, "docker", "exec", container, "ping", "-c1", "-W1", address)
		return err
	})
	if err != nil {
		return err
	}
	out, err := h.Run(ctx, "docker", "exec", container, "ping", "-c5", "-i0.2", "-W1", address)
	if err == nil && !strings.Contains(out, "5 packets received") {
		err = errors.New(out)
	}
	if err != nil {
		return fmt.Errorf("cannot ping %s on %s from %s: %w", target, to.Name, h.Name, err)
	}
	return nil
}

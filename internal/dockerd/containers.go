package dockerd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

// Container is a container in a list.
type Container struct {
	ID     string `json:"Id"`
	Names  []string
	Labels map[string]string

	NetworkSettings struct {
		Networks map[string]Attachment // by network name
	}
}

// Attachment is the connection of a container to a network.
type Attachment struct {
	// NetworkID is "" if the container was never started. Otherwise Docker starts it
	// on the network with this ID only, not on another one of the same name.
	NetworkID string
}

// Name is the container's first name.
func (c Container) Name() string {
	if len(c.Names) == 0 {
		return c.ID
	}
	return strings.TrimPrefix(c.Names[0], "/")
}

// Containers lists all containers, also those that do not run.
func (d *Client) Containers(ctx context.Context) ([]Container, error) {
	var list []Container
	err := d.call(ctx, http.MethodGet, "/containers/json", url.Values{"all": {"1"}}, nil, &list)
	return list, err
}

// RunningContainers lists the running containers.
func (d *Client) RunningContainers(ctx context.Context) ([]Container, error) {
	var list []Container
	err := d.call(ctx, http.MethodGet, "/containers/json", nil, nil, &list)
	return list, err
}

// ContainerDetails is the result of inspecting a container.
type ContainerDetails struct {
	Image  string // the image's ID
	Config struct {
		Image  string
		Env    []string
		Labels map[string]string
	}
	State struct {
		Running  bool
		Pid      int
		ExitCode int
		Error    string
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

// Container inspects a container. If it does not exist, NotFound
// reports true for the error.
func (d *Client) Container(ctx context.Context, name string) (ContainerDetails, error) {
	var c ContainerDetails
	err := d.call(ctx, http.MethodGet, "/containers/"+name+"/json", nil, nil, &c)
	c.State.Error = text.Line(c.State.Error)
	return c, err
}

// NewContainer describes a container to create.
type NewContainer struct {
	Name       string
	Image      string
	Entrypoint []string // replaces the image's
	Command    []string
	Network    string
	Mounts     []Mount
	Labels     map[string]string
}

// Mount is a file or directory of the host in a container. Unlike with -v, Docker does
// not create a Source that does not exist.
type Mount struct {
	Type     string // bind
	Source   string
	Target   string
	ReadOnly bool
}

// CreateContainer creates a container and returns its ID.
func (d *Client) CreateContainer(ctx context.Context, c NewContainer) (string, error) {
	body := map[string]any{
		"Image": c.Image, "Entrypoint": c.Entrypoint, "Cmd": c.Command, "Labels": c.Labels,
		// Without SELinux, Docker ignores the option.
		"HostConfig": map[string]any{"NetworkMode": c.Network, "Mounts": c.Mounts, "SecurityOpt": []string{"label=disable"}},
	}
	var created struct {
		ID string `json:"Id"`
	}
	err := d.call(ctx, http.MethodPost, "/containers/create", url.Values{"name": {c.Name}}, body, &created)
	return created.ID, err
}

// StartContainer starts a container.
func (d *Client) StartContainer(ctx context.Context, id string) error {
	return d.call(ctx, http.MethodPost, "/containers/"+id+"/start", nil, nil, nil)
}

// RemoveContainer kills and removes a container, if it exists.
func (d *Client) RemoveContainer(ctx context.Context, id string) error {
	err := d.call(ctx, http.MethodDelete, "/containers/"+id, url.Values{"force": {"1"}, "v": {"1"}}, nil, nil)
	if NotFound(err) {
		return nil
	}
	return err
}

// maxExecOutput bounds what is kept of the output of a command, in bytes.
const maxExecOutput = 1 << 20

// Exec runs a command in a running container, at most as long as limit, and
// returns its exit status and its output.
func (d *Client) Exec(ctx context.Context, limit time.Duration, container string, command []string) (status int, output []byte, err error) {
	err = host.WithLimit(ctx, limit, "run "+strings.Join(command, " ")+" in "+container, func(ctx context.Context) error {
		status, output, err = d.exec(ctx, container, command)
		return err
	})
	return status, output, err
}

func (d *Client) exec(ctx context.Context, container string, command []string) (status int, output []byte, err error) {
	var created struct {
		ID string `json:"Id"`
	}
	// With a terminal the response is the plain output, not frames of two
	// streams.
	body := map[string]any{"Cmd": command, "AttachStdout": true, "AttachStderr": true, "Tty": true}
	if err := d.call(ctx, http.MethodPost, "/containers/"+container+"/exec", nil, body, &created); err != nil {
		return -1, nil, err
	}
	start, err := json.Marshal(map[string]any{"Detach": false, "Tty": true})
	if err != nil {
		return -1, nil, err
	}
	resp, err := d.send(ctx, http.MethodPost, "/exec/"+created.ID+"/start", nil, bytes.NewReader(start), "application/json")
	if err != nil {
		return -1, nil, err
	}
	defer resp.Body.Close()
	// The output ends when the command exits.
	if output, err = io.ReadAll(io.LimitReader(resp.Body, maxExecOutput)); err != nil {
		return -1, output, err
	}
	var state struct {
		Running  bool
		ExitCode *int
	}
	if err := d.call(ctx, http.MethodGet, "/exec/"+created.ID+"/json", nil, nil, &state); err != nil {
		return -1, output, err
	}
	if state.Running || state.ExitCode == nil {
		return -1, output, &Error{Message: "the command in " + container + " has not exited"}
	}
	return *state.ExitCode, output, nil
}

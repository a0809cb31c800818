package host

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Image is an image in the daemon's store.
type Image struct {
	ID string `json:"Id"`
}

// Image looks an image up by name or ID; DockerNotFound tells its absence.
func (d *Docker) Image(ctx context.Context, name string) (Image, error) {
	var image Image
	err := d.call(ctx, http.MethodGet, "/images/"+name+"/json", nil, nil, &image)
	return image, err
}

// RemoveImage removes an image by name.
func (d *Docker) RemoveImage(ctx context.Context, name string) error {
	err := d.call(ctx, http.MethodDelete, "/images/"+name, nil, nil, nil)
	if DockerNotFound(err) {
		return nil
	}
	return err
}

// Container is a container in short.
type Container struct {
	ID     string `json:"Id"`
	Names  []string
	Image  string
	State  string
	Labels map[string]string

	NetworkSettings struct {
		Networks map[string]json.RawMessage // by the networks' names
	}
}

// Name is the container's first name.
func (c Container) Name() string {
	if len(c.Names) == 0 {
		return c.ID
	}
	return strings.TrimPrefix(c.Names[0], "/")
}

// Containers lists the running containers, or all of them.
func (d *Docker) Containers(ctx context.Context, all bool) ([]Container, error) {
	query := url.Values{}
	if all {
		query.Set("all", "1")
	}
	var list []Container
	err := d.call(ctx, http.MethodGet, "/containers/json", query, nil, &list)
	return list, err
}

// ContainerDetails is what inspection of a container tells.
type ContainerDetails struct {
	ID     string `json:"Id"`
	Name   string
	Image  string // the image's ID
	Config struct {
		Image string
		Env   []string
	}
	State struct {
		Running  bool
		Pid      int
		ExitCode int
		Error    string
	}
	NetworkSettings struct {
		Networks map[string]struct {
			IPAddress string
		}
	}
}

// Container inspects a container; DockerNotFound tells its absence.
func (d *Docker) Container(ctx context.Context, name string) (ContainerDetails, error) {
	var c ContainerDetails
	err := d.call(ctx, http.MethodGet, "/containers/"+name+"/json", nil, nil, &c)
	return c, err
}

// NewContainer is a container to be made.
type NewContainer struct {
	Name    string
	Image   string
	Command []string
	Env     []string
	Network string
	Labels  map[string]string
}

// CreateContainer makes a container and returns its ID.
func (d *Docker) CreateContainer(ctx context.Context, c NewContainer) (string, error) {
	body := map[string]any{
		"Image": c.Image, "Cmd": c.Command, "Env": c.Env, "Labels": c.Labels,
		"HostConfig": map[string]any{"NetworkMode": c.Network},
	}
	var made struct {
		ID string `json:"Id"`
	}
	err := d.call(ctx, http.MethodPost, "/containers/create", url.Values{"name": {c.Name}}, body, &made)
	return made.ID, err
}

// StartContainer starts a container.
func (d *Docker) StartContainer(ctx context.Context, id string) error {
	return d.call(ctx, http.MethodPost, "/containers/"+id+"/start", nil, nil, nil)
}

// RemoveContainer kills and removes a container; one that is not there is no
// error.
func (d *Docker) RemoveContainer(ctx context.Context, id string) error {
	err := d.call(ctx, http.MethodDelete, "/containers/"+id, url.Values{"force": {"1"}, "v": {"1"}}, nil, nil)
	if DockerNotFound(err) {
		return nil
	}
	return err
}

// DockerNetwork is a network as the daemon knows it.
type DockerNetwork struct {
	ID     string `json:"Id"`
	Name   string
	Scope  string
	Driver string
	IPAM   struct {
		Driver string
		Config []struct{ Subnet string }
	}
	Labels map[string]string
}

// Subnets lists the network's subnets.
func (n DockerNetwork) Subnets() []string {
	var subnets []string
	for _, c := range n.IPAM.Config {
		subnets = append(subnets, c.Subnet)
	}
	return subnets
}

// Networks lists all networks.
func (d *Docker) Networks(ctx context.Context) ([]DockerNetwork, error) {
	var list []DockerNetwork
	err := d.call(ctx, http.MethodGet, "/networks", nil, nil, &list)
	return list, err
}

// CreateNetwork makes a network with one subnet and returns its ID.
func (d *Docker) CreateNetwork(ctx context.Context, name, driver, ipam, subnet string) (string, error) {
	body := map[string]any{
		"Name": name, "Driver": driver, "CheckDuplicate": true,
		"IPAM": map[string]any{"Driver": ipam, "Config": []any{map[string]string{"Subnet": subnet}}},
	}
	var made struct {
		ID string `json:"Id"`
	}
	err := d.call(ctx, http.MethodPost, "/networks/create", nil, body, &made)
	return made.ID, err
}

// Exec runs a command in a running container and returns its exit status and
// what it printed.
func (d *Docker) Exec(ctx context.Context, container string, command []string) (status int, output []byte, err error) {
	var made struct {
		ID string `json:"Id"`
	}
	// With a terminal the answer is the plain output, not frames of two streams.
	body := map[string]any{"Cmd": command, "AttachStdout": true, "AttachStderr": true, "Tty": true}
	if err := d.call(ctx, http.MethodPost, "/containers/"+container+"/exec", nil, body, &made); err != nil {
		return -1, nil, err
	}
	start, err := json.Marshal(map[string]any{"Detach": false, "Tty": true})
	if err != nil {
		return -1, nil, err
	}
	resp, err := d.send(ctx, http.MethodPost, "/exec/"+made.ID+"/start", nil, bytes.NewReader(start), "application/json")
	if err != nil {
		return -1, nil, err
	}
	defer resp.Body.Close()
	// The output ends with the command.
	if output, err = io.ReadAll(io.LimitReader(resp.Body, maxOutput)); err != nil {
		return -1, output, err
	}
	var state struct {
		Running  bool
		ExitCode *int
	}
	if err := d.call(ctx, http.MethodGet, "/exec/"+made.ID+"/json", nil, nil, &state); err != nil {
		return -1, output, err
	}
	if state.Running || state.ExitCode == nil {
		return -1, output, &DockerError{Message: "the command in " + container + " did not end"}
	}
	return *state.ExitCode, output, nil
}

// ActivatePlugin asks a plugin at its socket (a path of the machine) what it
// implements. A socket whose plugin died is still a file: only an answer
// proves that it lives.
func (h *Host) ActivatePlugin(ctx context.Context, socket string) ([]string, error) {
	client := http.Client{Transport: unixTransport(h.path(socket))}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/Plugin.Activate", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, plainURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp)
	}
	var answer struct{ Implements []string }
	err = json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 64<<10)).Decode(&answer)
	return answer.Implements, err
}

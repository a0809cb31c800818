package dockerd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// maxPluginResponse bounds one response of a plugin, in bytes.
	maxPluginResponse = 64 << 10
	// maxPluginMessage bounds an error message of a plugin, in bytes.
	maxPluginMessage = 1000
	// maxImplements bounds what a plugin states to implement.
	maxImplements = 100
)

// PluginDir is the directory in which Docker looks for the sockets of plugins.
const PluginDir = "/run/docker/plugins/"

// Plugin is a client of a plugin of Docker, which calls it as Docker does.
type Plugin struct {
	path   string
	socket *host.Socket
	step   func(op, target string)
}

// NewPlugin returns a client of the plugin on the socket at path, a path of the
// machine. Only a response proves that the plugin runs: the socket file of a dead
// plugin remains.
func NewPlugin(h *host.Host, path string) *Plugin {
	return &Plugin{path: path, socket: h.Socket(path), step: h.Step}
}

// Activate calls Plugin.Activate and returns what the plugin implements.
func (p *Plugin) Activate(ctx context.Context) ([]string, error) {
	data, err := p.call(ctx, "Plugin.Activate", nil)
	if err != nil {
		return nil, err
	}
	return decodeActivation(data)
}

func decodeActivation(data []byte) ([]string, error) {
	var result struct{ Implements []string }
	if err := json.Unmarshal(data, &result); err != nil {
		return nil, fmt.Errorf("cannot decode the plugin's response: %s", text.Line(err.Error()))
	}
	if len(result.Implements) > maxImplements {
		return nil, fmt.Errorf("cannot use the plugin's response: it implements more than %d interfaces", maxImplements)
	}
	for i, name := range result.Implements {
		result.Implements[i] = text.Line(name)
	}
	return result.Implements, nil
}

// Scope returns the scope of a network plugin's networks: local or global.
func (p *Plugin) Scope(ctx context.Context) (string, error) {
	data, err := p.call(ctx, "NetworkDriver.GetCapabilities", nil)
	if err != nil {
		return "", err
	}
	return decodeScope(data)
}

func decodeScope(data []byte) (string, error) {
	var result struct{ Scope string }
	if err := json.Unmarshal(data, &result); err != nil {
		return "", fmt.Errorf("cannot decode the plugin's response: %s", text.Line(err.Error()))
	}
	return text.Line(result.Scope), nil
}

var dockerID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// IsID reports whether id has the form of Docker's IDs.
func IsID(id string) bool { return dockerID.MatchString(id) }

// DeleteEndpoint makes a network plugin delete one of its endpoints.
func (p *Plugin) DeleteEndpoint(ctx context.Context, id string) error {
	if !IsID(id) {
		return fmt.Errorf("cannot delete the endpoint: %q is not an endpoint ID", text.Line(id))
	}
	body, err := json.Marshal(map[string]string{"EndpointID": id})
	if err != nil {
		return err
	}
	p.step("command", "plugin NetworkDriver.DeleteEndpoint "+id)
	_, err = p.call(ctx, "NetworkDriver.DeleteEndpoint", body)
	return err
}

// PluginError is an error response of a plugin.
type PluginError struct{ Message string }

func (e *PluginError) Error() string { return e.Message }

// pluginTimeout bounds one call of a plugin, which may wait for etcd.
const pluginTimeout = 30 * time.Second

// call posts body to a method of the plugin and returns the response.
func (p *Plugin) call(ctx context.Context, method string, body []byte) (data []byte, err error) {
	err = host.WithLimit(ctx, pluginTimeout, "call "+method+" of the plugin at "+p.path, func(ctx context.Context) error {
		data, err = p.post(ctx, method, body)
		return err
	})
	return data, err
}

func (p *Plugin) post(ctx context.Context, method string, body []byte) ([]byte, error) {
	resp, err := p.socket.Do(ctx, http.MethodPost, "/"+method, nil, bytes.NewReader(body), "application/json")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxPluginResponse))
	if err != nil {
		return nil, err
	}
	return data, pluginError(resp.StatusCode, data)
}

// pluginError returns the error in a plugin's response. Plugins report an error
// in the field Err, with status 500 or 200.
func pluginError(status int, data []byte) error {
	var body struct{ Err string }
	_ = json.Unmarshal(data, &body) // a response without the field is no error by itself
	switch {
	case body.Err != "":
		return &PluginError{text.LineOf(body.Err, maxPluginMessage)}
	case status != http.StatusOK:
		return &PluginError{fmt.Sprintf("the plugin answered with status %d", status)}
	}
	return nil
}

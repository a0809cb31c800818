package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

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

// ActivatePlugin calls Plugin.Activate on a plugin's socket (a path of the
// machine) and returns what the plugin implements. Only a response proves that
// the plugin runs: the socket file of a dead plugin remains.
func (h *Host) ActivatePlugin(ctx context.Context, socket string) ([]string, error) {
	data, err := h.callPlugin(ctx, socket, "Plugin.Activate", nil)
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

// PluginScope returns the scope of a network plugin's networks: local or global.
func (h *Host) PluginScope(ctx context.Context, socket string) (string, error) {
	data, err := h.callPlugin(ctx, socket, "NetworkDriver.GetCapabilities", nil)
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

var endpointID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// DeleteEndpoint makes the network plugin on a socket delete one of its
// endpoints. An endpoint that does not exist is no error.
func (h *Host) DeleteEndpoint(ctx context.Context, socket, id string) error {
	if !endpointID.MatchString(id) {
		return fmt.Errorf("cannot delete the endpoint: %q is not an endpoint ID", text.Line(id))
	}
	body, err := json.Marshal(map[string]string{"EndpointID": id})
	if err != nil {
		return err
	}
	h.step("command", "plugin NetworkDriver.DeleteEndpoint "+id)
	_, err = h.callPlugin(ctx, socket, "NetworkDriver.DeleteEndpoint", body)
	var failed *PluginError
	if errors.As(err, &failed) && strings.Contains(failed.Message, "resource does not exist") {
		return nil
	}
	return err
}

// PluginError is an error response of a plugin.
type PluginError struct{ Message string }

func (e *PluginError) Error() string { return e.Message }

// pluginTimeout bounds one call of a plugin, which may wait for etcd.
const pluginTimeout = 30 * time.Second

// callPlugin posts body to a method of a plugin and returns the response.
func (h *Host) callPlugin(ctx context.Context, socket, method string, body []byte) (data []byte, err error) {
	err = WithLimit(ctx, pluginTimeout, "call "+method+" of the plugin at "+socket, func(ctx context.Context) error {
		data, err = postToPlugin(ctx, h.Socket(socket), method, body)
		return err
	})
	return data, err
}

func postToPlugin(ctx context.Context, socket *Socket, method string, body []byte) ([]byte, error) {
	resp, err := socket.Do(ctx, http.MethodPost, "/"+method, nil, bytes.NewReader(body), "application/json")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxPluginResponse))
	if err != nil {
		return nil, withoutURL(err)
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

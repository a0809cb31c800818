// Package dockerd knows Docker: the Engine API in every version from Docker 19.03
// to 29, daemon.json and dockerd's flags, the cluster-store, and the files in
// which Docker keeps its containers. It knows neither Calico nor the stages.
package dockerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

// Socket is the socket of the Docker daemon.
const Socket = "/run/docker.sock"

// maxResponse bounds one response of the daemon, in bytes.
const maxResponse = 16 << 20

// Client is a client of the Engine API on the daemon's socket.
type Client struct {
	socket  *host.Socket
	step    func(op, target string)
	version negotiation
}

// New returns a client of a machine's Docker. It does not connect yet: with
// socket activation the first call starts a stopped daemon, so query systemd
// first.
func New(h *host.Host) *Client { return &Client{socket: h.Socket(Socket), step: h.Step} }

// Error is an error response of the daemon.
type Error struct {
	Status  int // HTTP status
	Message string
}

func (e *Error) Error() string { return e.Message }

// NotFound reports whether err means that the object does not exist.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// callTimeout bounds one call: while its cluster store is unreachable, dockerd
// answers late or never.
const callTimeout = 2 * time.Minute

// call sends body as JSON and decodes the response into result, if not nil.
func (d *Client) call(ctx context.Context, method, path string, query url.Values, body, result any) error {
	return host.WithLimit(ctx, callTimeout, "call Docker ("+method+" "+path+")", func(ctx context.Context) error {
		return d.callJSON(ctx, method, path, query, body, result)
	})
}

func (d *Client) callJSON(ctx context.Context, method, path string, query url.Values, body, result any) error {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("cannot call Docker: %w", err)
		}
		payload = bytes.NewReader(data)
	}
	if method != http.MethodGet {
		d.step("command", "docker "+method+" "+path)
	}
	resp, err := d.send(ctx, method, path, query, payload, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if result == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxResponse))
		return err
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(result)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("cannot read Docker's response to %s: %w", path, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("cannot decode Docker's response to %s: %s", path, text.Line(err.Error()))
	}
	return nil
}

// send sends a request in the negotiated version of the API and returns a
// successful response, whose body the caller must close.
func (d *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	version, err := d.api(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := d.do(ctx, method, "/v"+version.String()+path, query, body, contentType)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusBadRequest && strings.Contains(e.Message, "client version") {
		d.version.set(apiVersion{}) // Docker was replaced by one that does not serve it
	}
	return resp, err
}

// do sends one request and returns a successful response, whose body the caller
// must close.
func (d *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	resp, err := d.socket.Do(ctx, method, path, query, body, contentType)
	if err != nil {
		return nil, fmt.Errorf("cannot reach Docker: %w", err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, responseError(resp)
}

// maxMessage bounds an error message of the daemon, in bytes. Docker joins the
// messages of its plugins and runtimes.
const maxMessage = 1000

// responseError is the error of a response with a status of 400 or more.
func responseError(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // an incomplete message is better than none
	var body struct{ Message string }
	if json.Unmarshal(data, &body) != nil || body.Message == "" {
		body.Message = "Docker answered " + resp.Status
	}
	return &Error{Status: resp.StatusCode, Message: text.LineOf(body.Message, maxMessage)}
}

// Info is the daemon's version and settings.
type Info struct {
	ServerVersion  string
	ClusterStore   string
	DockerRootDir  string
	DefaultRuntime string
	Swarm          struct{ LocalNodeState string }
}

// Info returns the daemon's version and settings.
func (d *Client) Info(ctx context.Context) (Info, error) {
	var info Info
	err := d.call(ctx, http.MethodGet, "/info", nil, nil, &info)
	info.ServerVersion, info.ClusterStore = text.Line(info.ServerVersion), text.Line(info.ClusterStore)
	return info, err
}

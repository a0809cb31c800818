package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/text"
)

// DockerSocket is the socket of the Docker daemon.
const DockerSocket = "/run/docker.sock"

// maxDockerResponse bounds one response of the daemon, in bytes.
const maxDockerResponse = 16 << 20

// Docker is a client of the Engine API on the daemon's socket.
type Docker struct {
	http    *http.Client
	step    func(op, target string)
	version negotiation
}

// Docker returns a client of the Engine API. It does not connect yet: with
// socket activation the first call starts a stopped daemon, so query systemd
// first.
func (h *Host) Docker() *Docker {
	return &Docker{http: &http.Client{Transport: unixTransport(h.RealPath(DockerSocket))}, step: h.step}
}

// maxDockerHeader bounds the headers of a response, in bytes.
const maxDockerHeader = 64 << 10

// unixTransport connects to a socket of this machine, never through a proxy.
func unixTransport(socket string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxDockerHeader,
	}
}

// withoutURL removes the placeholder URL of a socket from an error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// DockerError is an error response of the daemon.
type DockerError struct {
	Status  int // HTTP status
	Message string
}

func (e *DockerError) Error() string { return e.Message }

// DockerNotFound reports whether err means that the object does not exist.
func DockerNotFound(err error) bool {
	var e *DockerError
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// callTimeout bounds one call: while its cluster store is unreachable, dockerd
// answers late or never.
const callTimeout = 2 * time.Minute

// withLimit calls do with a context that ends after limit. action completes
// "cannot …" in the error of a call that the limit ended.
func withLimit(ctx context.Context, limit time.Duration, action string, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(limited)
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	return fault.New(fault.Retryable, fault.Timeout, fmt.Errorf("cannot %s: timed out after %v", action, limit))
}

// call sends body as JSON and decodes the response into result, if not nil.
func (d *Docker) call(ctx context.Context, method, path string, query url.Values, body, result any) error {
	return withLimit(ctx, callTimeout, "call Docker ("+method+" "+path+")", func(ctx context.Context) error {
		return d.callJSON(ctx, method, path, query, body, result)
	})
}

func (d *Docker) callJSON(ctx context.Context, method, path string, query url.Values, body, result any) error {
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
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxDockerResponse))
		return err
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxDockerResponse)).Decode(result)
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
func (d *Docker) send(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	version, err := d.api(ctx)
	if err != nil {
		return nil, err
	}
	return d.do(ctx, method, "/v"+version.String()+path, query, body, contentType)
}

// do sends one request. ctx must have a deadline, because dockerd can stop
// answering at any time.
func (d *Docker) do(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	if _, limited := ctx.Deadline(); !limited {
		return nil, fmt.Errorf("cannot call Docker (%s %s): no time limit is set", method, path)
	}
	target := url.URL{Scheme: "http", Host: "docker", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("cannot call Docker: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach Docker: %w", withoutURL(err))
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, responseError(resp)
}

// maxDockerMessage bounds an error message of the daemon, in bytes. Docker joins
// the messages of its plugins and runtimes.
const maxDockerMessage = 1000

// responseError is the error of a response with a status of 400 or more.
func responseError(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // an incomplete message is better than none
	var body struct{ Message string }
	if json.Unmarshal(data, &body) != nil || body.Message == "" {
		body.Message = "Docker answered " + resp.Status
	}
	return &DockerError{Status: resp.StatusCode, Message: text.LineOf(body.Message, maxDockerMessage)}
}

// DockerInfo is the daemon's version and settings.
type DockerInfo struct {
	ServerVersion string
	ClusterStore  string
	DockerRootDir string
	Swarm         struct{ LocalNodeState string }
}

// Info returns the daemon's version and settings.
func (d *Docker) Info(ctx context.Context) (DockerInfo, error) {
	var info DockerInfo
	err := d.call(ctx, http.MethodGet, "/info", nil, nil, &info)
	info.ServerVersion, info.ClusterStore = text.Line(info.ServerVersion), text.Line(info.ClusterStore)
	return info, err
}

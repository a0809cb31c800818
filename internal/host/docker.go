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
	"os"
	"time"
)

// DockerSocket is where the Docker daemon listens.
const DockerSocket = "/run/docker.sock"

// dockerAPI is the version of the Engine API that is spoken: 1.40 came with
// Docker 19.03, and every release whose networks work with Calico serves it.
const dockerAPI = "/v1.40"

// maxDockerAnswer bounds one answer of the daemon, in bytes.
const maxDockerAnswer = 16 << 20

// Docker speaks the Engine API over the daemon's socket.
type Docker struct {
	http *http.Client
	step func(op, target string)
}

// Docker opens the Engine API. Nothing is asked yet: with socket activation
// the first question starts a stopped daemon, so ask systemd first.
func (h *Host) Docker() *Docker {
	return &Docker{http: &http.Client{Transport: unixTransport(h.path(DockerSocket))}, step: h.step}
}

func unixTransport(socket string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
}

// plainURL takes the made-up address of a socket off an error.
func plainURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// DockerError is an answer of the daemon that says no.
type DockerError struct {
	Status  int // HTTP status
	Message string
}

func (e *DockerError) Error() string { return e.Message }

// DockerNotFound tells whether err says that the object does not exist.
func DockerNotFound(err error) bool {
	var e *DockerError
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// callTime bounds one call: with its cluster store out of reach dockerd takes
// long for an answer, and may never give one.
const callTime = 2 * time.Minute

// call sends body as JSON and decodes the answer into answer, if not nil.
func (d *Docker) call(ctx context.Context, method, path string, query url.Values, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("cannot ask Docker: %w", err)
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
	if answer == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxDockerAnswer))
		return err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDockerAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("cannot understand Docker's answer to %s: %w", path, err)
	}
	return nil
}

// send returns a successful answer; its body must be closed.
func (d *Docker) send(ctx context.Context, method, path string, query url.Values, body io.Reader, kind string) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "docker", Path: dockerAPI + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("cannot ask Docker: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach Docker: %w", plainURL(err))
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refused(resp)
}

func refused(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var said struct{ Message string }
	if json.Unmarshal(data, &said) != nil || said.Message == "" {
		said.Message = fmt.Sprintf("Docker answered %s", resp.Status)
	}
	return &DockerError{Status: resp.StatusCode, Message: said.Message}
}

// DockerInfo is what the daemon says of itself.
type DockerInfo struct {
	ServerVersion string
	ClusterStore  string
	DockerRootDir string
	Swarm         struct{ LocalNodeState string }
}

// Info asks the daemon for its version and settings.
func (d *Docker) Info(ctx context.Context) (DockerInfo, error) {
	var info DockerInfo
	err := d.call(ctx, http.MethodGet, "/info", nil, nil, &info)
	return info, err
}

// LoadImage loads an image archive (a path of this process). progress gets the
// bytes sent so far.
func (d *Docker) LoadImage(ctx context.Context, archive string, progress func(sent int64)) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("cannot load the image: %w", err)
	}
	defer f.Close()
	return d.LoadImageFrom(ctx, f, progress)
}

// LoadImageFrom loads an image archive from a stream.
func (d *Docker) LoadImageFrom(ctx context.Context, archive io.Reader, progress func(sent int64)) error {
	d.step("command", "docker load")
	counted := &countingReader{from: archive, seen: progress}
	resp, err := d.send(ctx, http.MethodPost, "/images/load", url.Values{"quiet": {"1"}}, counted, "application/x-tar")
	if err != nil {
		return fmt.Errorf("cannot load the image: %w", err)
	}
	defer resp.Body.Close()
	return streamError(resp.Body, nil)
}

// PullImage pulls an image by name. progress gets the registry's own lines.
func (d *Docker) PullImage(ctx context.Context, name string, progress func(line string)) error {
	d.step("command", "docker pull "+name)
	resp, err := d.send(ctx, http.MethodPost, "/images/create", url.Values{"fromImage": {name}}, nil, "")
	if err != nil {
		return fmt.Errorf("cannot pull %s: %w", name, err)
	}
	defer resp.Body.Close()
	if err := streamError(resp.Body, progress); err != nil {
		return fmt.Errorf("cannot pull %s: %w", name, err)
	}
	return nil
}

// streamError reads the daemon's progress stream to its end; the error of a
// pull or load is a line in it, under status 200.
func streamError(body io.Reader, progress func(string)) error {
	lines := json.NewDecoder(body)
	for {
		var line struct {
			Error    string
			Status   string
			Progress string
		}
		err := lines.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("cannot understand Docker's progress: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		case progress != nil && line.Status != "":
			progress(line.Status + " " + line.Progress)
		}
	}
}

type countingReader struct {
	from io.Reader
	n    int64
	seen func(int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	if c.seen != nil {
		c.seen(c.n)
	}
	return n, err
}

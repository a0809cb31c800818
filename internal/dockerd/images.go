package dockerd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

// Image is an image in the daemon's store.
//
// Its ID is the digest of its configuration. In containerd's image store, which
// Docker 29 uses on a new data root, it is the digest of its manifest. One daemon
// uses one of them everywhere, so the ID of a container's image is compared with
// it directly. The IDs in an archive are compared by IsOneOf.
type Image struct {
	ID string `json:"Id"`
}

// IsOneOf reports whether the image has one of the IDs that an archive gives it.
func (i Image) IsOneOf(ids []string) bool { return i.ID != "" && slices.Contains(ids, i.ID) }

// SameImage reports whether two names mean the same image. Docker prints names
// without its default registry and tag.
func SameImage(a, b string) bool { return familiarName(a) == familiarName(b) }

func familiarName(image string) string {
	for _, registry := range []string{"docker.io/", "index.docker.io/"} {
		image = strings.TrimPrefix(image, registry)
	}
	image = strings.TrimPrefix(image, "library/")
	if !strings.Contains(image[strings.LastIndex(image, "/")+1:], ":") && !strings.Contains(image, "@") {
		image += ":latest"
	}
	return image
}

// Image finds an image by name or ID. If it does not exist, NotFound
// reports true for the error.
func (d *Client) Image(ctx context.Context, name string) (Image, error) {
	var image Image
	err := d.call(ctx, http.MethodGet, "/images/"+name+"/json", nil, nil, &image)
	return image, err
}

// LoadImage loads an image archive (a path of this process), at most as long as
// limit, and returns the names of the images that Docker has loaded. progress
// receives the number of bytes sent so far.
func (d *Client) LoadImage(ctx context.Context, limit time.Duration, archive string, progress func(sent int64)) (names []string, err error) {
	err = host.WithLimit(ctx, limit, "load the image", func(ctx context.Context) error {
		names, err = d.loadImage(ctx, archive, progress)
		return err
	})
	return names, err
}

func (d *Client) loadImage(ctx context.Context, archive string, progress func(sent int64)) (names []string, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("cannot load the image: %w", err)
	}
	defer f.Close()
	d.step("command", "docker load")
	body := &countingReader{from: f, progress: progress}
	resp, err := d.send(ctx, http.MethodPost, "/images/load", url.Values{"quiet": {"1"}}, body, "application/x-tar")
	if err != nil {
		return nil, fmt.Errorf("cannot load the image: %w", err)
	}
	defer resp.Body.Close()
	err = readStream(resp.Body, func(line streamLine) {
		if name, ok := strings.CutPrefix(line.Stream, "Loaded image: "); ok && len(names) < maxLoaded {
			names = append(names, text.Line(name))
		}
	})
	return names, err
}

// maxLoaded bounds the names of loaded images that are kept.
const maxLoaded = 1000

// PullImage pulls an image by name, at most as long as limit. progress receives
// the daemon's progress lines. Its errors are classified.
func (d *Client) PullImage(ctx context.Context, limit time.Duration, name string, progress func(line string)) error {
	return host.WithLimit(ctx, limit, "pull "+name, func(ctx context.Context) error { return d.pullImage(ctx, name, progress) })
}

func (d *Client) pullImage(ctx context.Context, name string, progress func(line string)) error {
	d.step("command", "docker pull "+name)
	resp, err := d.send(ctx, http.MethodPost, "/images/create", url.Values{"fromImage": {name}}, nil, "")
	if err != nil {
		return pullError(name, err)
	}
	defer resp.Body.Close()
	err = readStream(resp.Body, func(line streamLine) {
		if line.Status != "" {
			progress(text.Line(line.Status + " " + line.Progress))
		}
	})
	if err != nil {
		return pullError(name, err)
	}
	return nil
}

// registryErrors are parts of the errors that only a person can resolve, as
// registries and Docker 19.03 to 29 word them.
var registryErrors = []struct {
	words  string
	kind   fault.Kind
	advice string
}{
	{"manifest unknown", fault.HTTP4xx, "correct node.image: the registry has no such tag or digest"},
	{"name unknown", fault.HTTP4xx, "correct node.image: the registry has no such repository"},
	{"no matching manifest", fault.HTTP4xx, "use an image that is built for this machine's architecture"},
	{"pull access denied", fault.Auth, "correct node.image; or, if its registry needs a login, set node.url and node.sha256, or use a bundle"},
	{"unauthorized", fault.Auth, "set node.url and node.sha256, or use a bundle: firstboot has no login for registries"},
	{"authentication required", fault.Auth, "set node.url and node.sha256, or use a bundle: firstboot has no login for registries"},
	{"no basic auth credentials", fault.Auth, "set node.url and node.sha256, or use a bundle: firstboot has no login for registries"},
	{"access to the resource is denied", fault.Auth, "correct node.image; or, if its registry needs a login, set node.url and node.sha256, or use a bundle"},
	{"invalid reference format", fault.Config, "correct node.image"},
	{"unknown authority", fault.TLS, "add the registry's CA to /etc/docker/certs.d"},
	{": not found", fault.HTTP4xx, "correct node.image: the registry has no such image"},
}

// pullError classifies the error of a pull: time resolves neither a missing tag
// nor a refused login, but the network's and the registry's failures.
func pullError(name string, err error) error {
	wrapped := fmt.Errorf("cannot pull %s: %w", name, err)
	message := strings.ToLower(err.Error())
	for _, known := range registryErrors {
		if strings.Contains(message, known.words) {
			return fault.WithHint(fault.Permanent, known.kind, wrapped, known.advice)
		}
	}
	var response *Error
	if errors.As(err, &response) && response.Status != 0 && response.Status < 500 {
		class, kind := fault.OfStatus(response.Status)
		return fault.WithHint(class, kind, wrapped, "correct node.image")
	}
	return fault.New(fault.Transient, fault.Network, wrapped)
}

// streamLine is one line of the daemon's progress.
type streamLine struct {
	Error    string
	Status   string
	Progress string
	Stream   string // what docker load prints
}

// maxStreamLine bounds one line of the daemon's progress, in bytes.
const maxStreamLine = 1 << 20

// readStream reads the daemon's progress to its end. A failed pull or load has
// status 200, and its error is a line of the stream.
func readStream(body io.Reader, use func(streamLine)) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxStreamLine)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var line streamLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("cannot decode Docker's progress: %s", text.Line(err.Error()))
		}
		if line.Error != "" {
			return errors.New(text.Line(line.Error))
		}
		use(line)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("cannot read Docker's progress: %w", err)
	}
	return nil
}

// countingReader reports how many bytes were read so far.
type countingReader struct {
	from     io.Reader
	n        int64
	progress func(int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	if c.progress != nil {
		c.progress(c.n)
	}
	return n, err
}

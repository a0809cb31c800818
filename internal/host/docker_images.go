package host

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Image is an image in the daemon's store.
type Image struct {
	ID string `json:"Id"`
}

// Image finds an image by name or ID. If it does not exist, DockerNotFound
// reports true for the error.
func (d *Docker) Image(ctx context.Context, name string) (Image, error) {
	var image Image
	err := d.call(ctx, http.MethodGet, "/images/"+name+"/json", nil, nil, &image)
	return image, err
}

// RemoveImage removes an image by name, if it exists.
func (d *Docker) RemoveImage(ctx context.Context, name string) error {
	err := d.call(ctx, http.MethodDelete, "/images/"+name, nil, nil, nil)
	if DockerNotFound(err) {
		return nil
	}
	return err
}

// LoadImage loads an image archive (a path of this process), at most as long as
// limit. progress receives the number of bytes sent so far.
func (d *Docker) LoadImage(ctx context.Context, limit time.Duration, archive string, progress func(sent int64)) error {
	return withLimit(ctx, limit, "load the image", func(ctx context.Context) error {
		return d.loadImage(ctx, archive, progress)
	})
}

func (d *Docker) loadImage(ctx context.Context, archive string, progress func(sent int64)) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("cannot load the image: %w", err)
	}
	defer f.Close()
	d.step("command", "docker load")
	body := &countingReader{from: f, progress: progress}
	resp, err := d.send(ctx, http.MethodPost, "/images/load", url.Values{"quiet": {"1"}}, body, "application/x-tar")
	if err != nil {
		return fmt.Errorf("cannot load the image: %w", err)
	}
	defer resp.Body.Close()
	return streamError(resp.Body, nil)
}

// PullImage pulls an image by name. progress receives the daemon's progress
// lines.
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

// ImportProgram creates an image called name ("NAME:TAG") that holds one static
// executable: program (a path of this process), as path.
func (d *Docker) ImportProgram(ctx context.Context, program, path, name string) error {
	f, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("cannot create the image %s: %w", name, err)
	}
	defer f.Close()
	d.step("command", "docker import "+name)
	archive, pipe := io.Pipe()
	go func() { pipe.CloseWithError(writeProgramArchive(pipe, f, path)) }()
	defer archive.Close()
	repo, tag, _ := strings.Cut(name, ":")
	query := url.Values{"fromSrc": {"-"}, "repo": {repo}, "tag": {tag}}
	resp, err := d.send(ctx, http.MethodPost, "/images/create", query, archive, "application/x-tar")
	if err != nil {
		return fmt.Errorf("cannot create the image %s: %w", name, err)
	}
	defer resp.Body.Close()
	if err := streamError(resp.Body, nil); err != nil {
		return fmt.Errorf("cannot create the image %s: %w", name, err)
	}
	return nil
}

// writeProgramArchive writes a tar archive with f as the executable path.
func writeProgramArchive(w io.Writer, f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Size: info.Size()})
	if err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return errors.Join(err, archive.Close())
}

// streamError reads the daemon's progress stream to its end. A failed pull or
// load has status 200, and its error is a line of the stream.
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
			return fmt.Errorf("cannot decode Docker's progress: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		case progress != nil && line.Status != "":
			progress(line.Status + " " + line.Progress)
		}
	}
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

package host

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// ImportProgram makes an image that holds one static program (a path of this
// process) as path, and names it name ("NAME:TAG").
func (d *Docker) ImportProgram(ctx context.Context, program, path, name string) error {
	f, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("cannot make the image %s: %w", name, err)
	}
	defer f.Close()
	d.step("command", "docker import "+name)
	content, write := io.Pipe()
	go func() { write.CloseWithError(tarProgram(write, f, path)) }()
	defer content.Close()
	repo, tag, _ := strings.Cut(name, ":")
	query := url.Values{"fromSrc": {"-"}, "repo": {repo}, "tag": {tag}}
	resp, err := d.send(ctx, http.MethodPost, "/images/create", query, content, "application/x-tar")
	if err != nil {
		return fmt.Errorf("cannot make the image %s: %w", name, err)
	}
	defer resp.Body.Close()
	if err := streamError(resp.Body, nil); err != nil {
		return fmt.Errorf("cannot make the image %s: %w", name, err)
	}
	return nil
}

func tarProgram(to io.Writer, f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	archive := tar.NewWriter(to)
	err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Size: info.Size()})
	if err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return errors.Join(err, archive.Close())
}

// DisconnectContainer takes a container's endpoint out of a network, also where the
// container is gone and only the network's store still knows it.
func (d *Docker) DisconnectContainer(ctx context.Context, network, container string) error {
	body := map[string]any{"Container": container, "Force": true}
	return d.call(ctx, http.MethodPost, "/networks/"+network+"/disconnect", nil, body, nil)
}

package stages

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// loadTimeout bounds the load of the node image. Measured: 40 s for 85 MB on an
// emulated machine.
const loadTimeout = 15 * time.Minute

// provideImage makes the node image the one in its archive. If neither an archive
// nor a digest is configured, it pulls the image.
func (s docker) provideImage(ctx context.Context, report engine.Progress) error {
	if s.pin(imageName) == "" {
		return s.pull(ctx, report)
	}
	archive, err := s.getArtifact(ctx, imageName, report)
	if err != nil {
		return err
	}
	id, err := s.imageID(ctx)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if s.isImageOf(archive, id) {
		return s.recordOrigin(ctx, imageName, archive, id, time.Time{})
	}
	if err := s.load(ctx, archive, report); err != nil {
		return err
	}
	if id, err = s.imageID(ctx); err != nil {
		return &engine.Retry{Err: err}
	}
	if id == "" {
		return s.notInArchive()
	}
	return s.recordOrigin(ctx, imageName, archive, id, time.Now())
}

// isImageOf reports whether the archive contains the image with this ID under the
// configured name, so that it need not be loaded.
func (s docker) isImageOf(archive, id string) bool {
	images, err := artifact.ReadImageArchive(archive)
	return err == nil && dockerd.Image{ID: id}.IsOneOf(images.IDs) && slices.ContainsFunc(images.Tags, s.isNodeImage)
}

// load loads the archive. Docker names what it has loaded: another archive would
// leave an earlier image under the configured name.
func (s docker) load(ctx context.Context, archive string, report engine.Progress) error {
	size := fileSize(archive)
	loaded, err := s.docker().LoadImage(ctx, loadTimeout, archive, func(sent int64) { report("loading the node image", sent, size) })
	if err != nil {
		return &engine.Retry{Err: err}
	}
	if !slices.ContainsFunc(loaded, s.isNodeImage) {
		return s.notInArchive()
	}
	return nil
}

func (s docker) notInArchive() error {
	return engine.WithHint(fmt.Errorf("the archive does not contain the image %s", s.Config.Node.Image),
		"set node.image to the name of an image in the archive")
}

// isNodeImage reports whether name is the configured image.
func (s docker) isNodeImage(name string) bool { return dockerd.SameImage(name, s.Config.Node.Image) }

func (s docker) pull(ctx context.Context, report engine.Progress) error {
	err := s.docker().PullImage(ctx, s.Config.Timeouts.Download, s.Config.Node.Image, func(line string) {
		report("pulling "+s.Config.Node.Image+": "+line, 0, 0)
	})
	if err == nil || fault.IsPermanent(err) {
		return err
	}
	return &engine.Wait{For: "the image " + s.Config.Node.Image + " from its registry", Err: err}
}

package disk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/projecteru2/firstboot/internal/engine"
)

// examine reads the image before anything on the disk is changed. It reads a local
// image to its end, and verifies its digest and its size. From a server it reads the
// beginning only. sized reports whether the size of the image is known now.
func (w *installation) examine(ctx context.Context) (sized bool, err error) {
	image, least, err := w.open(ctx)
	if err != nil {
		return false, err
	}
	defer w.close(image)
	if !w.source.local {
		return least > 0, nil
	}
	return true, w.readThrough(ctx, image)
}

// open opens the image and reads its head. It reports an error unless the image is one
// of a disk, and fits on the disk as far as its size is known. least is the least size
// of the image in bytes; 0 if that is unknown.
func (w *installation) open(ctx context.Context) (image io.ReadCloser, least int64, err error) {
	if w.source, err = openSource(ctx, w.o); err != nil {
		return nil, 0, err
	}
	if image, least, err = w.begin(); err != nil {
		_ = w.source.Close() // nothing was written to it
	}
	return image, least, err
}

func (w *installation) close(image io.Closer) {
	_ = image.Close()
	_ = w.source.Close() // nothing was written to it
}

// begin recognises the format of the image, and reads its head.
func (w *installation) begin() (image io.ReadCloser, least int64, err error) {
	if w.source.isOn(w.t) {
		return nil, 0, refuse("image-on-disk", w.o.Disk, "the image is on this disk", "an image elsewhere", "choose another disk, or move the image")
	}
	image, least, err = unpack(w.source, w.source.total)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot unpack the image: %w", err)
	}
	if err = w.readHead(image); err == nil && least > w.t.size {
		err = w.tooSmall(fmt.Sprintf("at least %d bytes, the size of the image", least))
	}
	if err != nil {
		_ = image.Close()
		return nil, 0, err
	}
	return image, least, nil
}

// tooSmall returns the refusal of a disk that is smaller than expected.
func (w *installation) tooSmall(expected string) error {
	return refuse("disk-too-small", w.o.Disk, fmt.Sprintf("%d bytes", w.t.size), expected, "choose a larger disk")
}

// readThrough reads the image after its head, to find out whether it is complete, is
// the one with the expected digest, and fits on the disk.
func (w *installation) readThrough(ctx context.Context, image io.Reader) error {
	buf, size := make([]byte, chunkSize), int64(len(w.head))
	var unpacked error // why the image cannot be unpacked
	for unpacked == nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := readFull(image, buf)
		if size += int64(n); size > w.t.size {
			return w.tooSmall("the size of the image, which is larger")
		}
		w.o.Progress("verifying", w.source.done, w.source.total)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			unpacked = w.readError(err)
		}
	}
	if err := w.verifyDigest(); err != nil {
		return err // also explains why it cannot be unpacked
	}
	return unpacked
}

// verifyDigest reads the rest of the image file and compares its digest with the
// expected one.
func (w *installation) verifyDigest() error {
	if err := w.source.drain(); err != nil {
		return err
	}
	if got := w.source.sha256(); got != w.o.Image.SHA256 {
		return engine.WithHint(fmt.Errorf("cannot use %s: its sha256 is %s (%d bytes), expected %s", w.o.Image.URL, got, w.source.done, w.o.Image.SHA256),
			"correct the URL or the sha256")
	}
	return nil
}

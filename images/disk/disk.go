// Package disk writes a disk image to a disk, from a live root. It verifies the
// image, reads it back, and makes the disk bootable last. A disk that holds data is
// refused unless the caller allows it; a disk in use is always refused.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// headSize is the size in bytes of the image's head, which is written last. It
// contains the boot sector and the partition table, or the superblock of a file
// system without partitions. The same number of bytes at both ends of the disk is
// checked for data: all partition tables, RAIDs and file systems have their
// signatures there.
const headSize = 1 << 20

// Options describe an installation.
type Options struct {
	Image images.Remote // http, https, file:///… or a path; raw, or compressed by gzip, xz or zstd
	Disk  string        // a device or a regular file
	Wipe  bool          // overwrite a disk that holds data
	// Proxy chooses the proxy of a request; nil: the environment's (web.Proxy).
	Proxy func(*http.Request) (*url.URL, error)
	// Confirm is called without Wipe if the disk holds data, and reports whether to
	// overwrite it. nil: the disk is refused.
	Confirm func(contents string) bool
	// Progress reports the progress of a step in bytes; total is 0 if unknown.
	Progress func(step string, done, total int64)
	// Waiting reports why the image is not being received at the moment.
	Waiting func(err error)
}

// Result describes a completed installation.
type Result struct {
	Disk   string `json:"disk"`
	SHA256 string `json:"sha256"` // of the image as downloaded
	Bytes  int64  `json:"bytes"`  // written to the disk
}

// Write writes the image to the disk. If it returns an *engine.Refusal, nothing was
// changed.
func Write(ctx context.Context, h *host.Host, o Options) (Result, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	t, err := openTarget(ctx, h, o.Disk)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = t.Close() }() // everything written has been synced
	if err := t.check(ctx, h, o.overwrite); err != nil {
		return Result{}, err
	}
	source, err := openSource(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = source.Close() }()
	if source.isOn(t) {
		return Result{}, refuse("image-on-disk", o.Disk, "the image is on this disk", "an image elsewhere", "choose another disk, or move the image")
	}
	w := &installation{o: o, t: t, source: source}
	return w.run(ctx)
}

// overwrite reports whether a disk that holds data may be overwritten.
func (o Options) overwrite(contents string) bool {
	return o.Wipe || o.Confirm != nil && o.Confirm(contents)
}

// installation is an installation in progress.
type installation struct {
	o      Options
	t      *target
	source *source
	head   []byte
	size   int64  // of the raw image
	rest   uint64 // checksum of the image after the head
}

// run changes nothing until the image's head has been received and recognised, and the
// image fits on the disk as far as its size is known. It writes the head only after it has verified the rest on the disk.
func (w *installation) run(ctx context.Context) (Result, error) {
	image, least, err := unpack(w.source, w.source.total)
	if err != nil {
		return Result{}, fmt.Errorf("cannot unpack the image: %w", err)
	}
	defer image.Close()
	if err := w.readHead(image); err != nil {
		return Result{}, err
	}
	if least > w.t.size {
		return Result{}, refuse("disk-too-small", w.o.Disk, fmt.Sprintf("%d bytes", w.t.size), fmt.Sprintf("at least %d bytes, the size of the image", least), "choose a larger disk")
	}
	if err := w.t.eraseEnds(); err != nil {
		return Result{}, notBootable(err)
	}
	if err := w.copyRest(ctx, image); err != nil {
		return Result{}, notBootable(err)
	}
	if err := w.verify(ctx); err != nil {
		return Result{}, notBootable(err)
	}
	if err := w.t.writeHead(w.head); err != nil {
		return Result{}, notBootable(err)
	}
	return Result{Disk: w.o.Disk, SHA256: w.source.sha256(), Bytes: w.size}, w.t.rereadPartitions()
}

// notBootable adds the hint that the disk does not boot.
func notBootable(err error) error {
	hint := "the disk does not boot now: correct the cause and run the same command again"
	if old := engine.Hint(err); old != "" {
		hint = old + "; " + hint
	}
	return engine.WithHint(err, "%s", hint)
}

// readHead reads the image's head and reports an error if it is not a disk image.
func (w *installation) readHead(image io.Reader) error {
	w.head = make([]byte, headSize)
	n, err := readFull(image, w.head)
	if err != nil && !errors.Is(err, io.EOF) {
		return w.readError(err)
	}
	bootSector := n > 1024 && w.head[510] == 0x55 && w.head[511] == 0xaa
	superblock := n > 2048 && w.head[1080] == 0x53 && w.head[1081] == 0xef // ext2 to ext4
	if n < headSize || !bootSector && !superblock {
		return engine.WithHint(fmt.Errorf("cannot install %s: it is not a disk image (no boot sector, no file system)", w.o.Image.URL),
			"use a raw image, optionally compressed with gzip, xz or zstd: qemu-img convert -O raw IMAGE RAW")
	}
	return nil
}

// readError returns the source's error, or err if the image cannot be unpacked.
func (w *installation) readError(err error) error {
	if w.source.err != nil {
		return w.source.err
	}
	return fmt.Errorf("cannot unpack %s: %w", w.o.Image.URL, err)
}

// verify compares the image's digest with the expected one, and then the data on
// the disk with the data written.
func (w *installation) verify(ctx context.Context) error {
	if err := w.source.drain(); err != nil {
		return err
	}
	if got := w.source.sha256(); got != w.o.Image.SHA256 {
		return engine.WithHint(fmt.Errorf("cannot use %s: its sha256 is %s (%d bytes), expected %s", w.o.Image.URL, got, w.source.done, w.o.Image.SHA256),
			"correct the URL or the sha256")
	}
	got, err := w.t.checksumRest(ctx, w.size, w.o.Progress)
	if err != nil {
		return err
	}
	if got != w.rest {
		return engine.WithHint(fmt.Errorf("cannot use %s: it does not return the data that was written", w.o.Disk), "the disk is defective: replace it")
	}
	return nil
}

// CheckImage reports an error if an image cannot be read or cannot be verified.
func CheckImage(image images.Remote) error {
	raw := image.URL.Reveal()
	if path, isFile := strings.CutPrefix(raw, "file://"); isFile || strings.HasPrefix(raw, "/") {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("cannot use --image: %s is not a file URL, such as file:///srv/golden.raw", image.URL)
		}
		image.URL = "http://localhost/" // only the digest remains to be checked
	} else if !strings.Contains(raw, "://") {
		return errors.New("cannot use --image: it must be an http, https or file URL, or an absolute path")
	}
	return image.Check("--image", "--sha256")
}

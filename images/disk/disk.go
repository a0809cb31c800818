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
	// overwrite it. sized reports whether the image is known to fit on the disk.
	// nil: the disk is refused.
	Confirm func(contents string, sized bool) bool
	// SizeUnknown is called before the disk is changed, unless Confirm was called, if
	// only writing the image shows whether it fits.
	SizeUnknown func()
	// Progress reports the progress of a step in bytes; total is 0 if unknown.
	Progress func(step string, done, total int64)
	// Waiting reports why the image is not being received at the moment.
	Waiting func(err error)

	record func(at int64, data []byte) // see target; for tests
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
	if o.SizeUnknown == nil {
		o.SizeUnknown = func() {}
	}
	t, err := openTarget(ctx, h, o.Disk)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = t.Close() }() // everything written has been synced
	t.record = o.record
	contents, err := t.contents(ctx, h)
	if err != nil {
		return Result{}, err
	}
	if contents != "" && !o.Wipe && o.Confirm == nil {
		return Result{}, holdsData(o.Disk, contents)
	}
	w := &installation{o: o, t: t}
	if err := w.consent(ctx, contents); err != nil {
		return Result{}, err
	}
	return w.run(ctx)
}

// consent examines the image. Then it asks for consent, if the disk holds data and the
// caller has not given it.
func (w *installation) consent(ctx context.Context, contents string) error {
	prompt := contents != "" && !w.o.Wipe
	if !prompt && !isLocal(w.o.Image) {
		return nil // run reads the beginning, and fetches the image once
	}
	sized, err := w.examine(ctx)
	if err != nil || !prompt {
		return err
	}
	if !w.o.Confirm(contents, sized) {
		return holdsData(w.o.Disk, contents)
	}
	w.prompted = true
	return nil
}

// installation is an installation in progress.
type installation struct {
	o        Options
	t        *target
	source   *source
	head     []byte
	size     int64  // of the raw image
	rest     uint64 // checksum of the image after the head
	prompted bool   // a person knows whether the size is known
}

// run changes nothing until the image's head has been received and recognised. It
// writes the head only after it has verified the rest on the disk.
func (w *installation) run(ctx context.Context) (Result, error) {
	image, least, err := w.open(ctx)
	if err != nil {
		return Result{}, err
	}
	defer w.close(image)
	if least == 0 && !w.source.local && !w.prompted {
		w.o.SizeUnknown()
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
	if err := w.verifyDigest(); err != nil {
		return err
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

// isLocal reports whether an image is a file of this machine.
func isLocal(image images.Remote) bool {
	_, local := localPath(image.URL.Reveal())
	return local
}

// localPath returns the path of an image that is a file of this machine.
func localPath(location string) (path string, local bool) {
	path, local = strings.CutPrefix(location, "file://")
	return path, local || strings.HasPrefix(location, "/")
}

// CheckImage reports an error if an image cannot be read or cannot be verified.
func CheckImage(image images.Remote) error {
	raw := image.URL.Reveal()
	if path, local := localPath(raw); local {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("cannot use --image: %s is not a file URL, such as file:///srv/golden.raw", image.URL)
		}
		image.URL = "http://localhost/" // only the digest remains to be checked
	} else if !strings.Contains(raw, "://") {
		return errors.New("cannot use --image: it must be an http, https or file URL, or an absolute path")
	}
	return image.Check("--image", "--sha256")
}

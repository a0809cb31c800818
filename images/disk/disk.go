// Package disk writes a disk image to a disk, from a live root: verified, read
// back, and bootable only when all of it is there. A disk that holds data is
// left alone unless the caller says otherwise; one that is in use, always.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// headSize is how much of the image's beginning is written last, in bytes: it
// holds the boot sector, the partition table and, on a disk without one, the
// file system's superblock. As much at both ends is looked at for data, where
// every partition table, RAID and file system has its signature.
const headSize = 1 << 20

// Options are one installation.
type Options struct {
	Image images.Remote // http, https, file:///… or a path; raw, or compressed by gzip, xz or zstd
	Disk  string        // device, or a regular file
	Wipe  bool          // also if the disk holds data
	// Progress is told how far a step is, in bytes; total is 0 while unknown.
	Progress func(step string, done, total int64)
	// Waiting is told why the source gives nothing at the moment.
	Waiting func(err error)
}

// Result is what was done.
type Result struct {
	Disk   string `json:"disk"`
	SHA256 string `json:"sha256"` // of the image as it was served
	Bytes  int64  `json:"bytes"`  // written to the disk
}

// Write puts the image on the disk. Its refusals are *engine.Refusal: then
// nothing was changed.
func Write(ctx context.Context, h *host.Host, o Options) (Result, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	t, err := openTarget(ctx, h, o.Disk)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = t.Close() }() // what was written is synced
	if err := t.check(ctx, h, o.Wipe); err != nil {
		return Result{}, err
	}
	source, err := openSource(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = source.Close() }()
	w := &writing{o: o, t: t, source: source}
	return w.whole(ctx)
}

// writing is an installation under way.
type writing struct {
	o      Options
	t      *target
	source *source
	head   []byte
	size   int64  // of the raw image
	tail   uint64 // quick sum of what follows the head
}

// whole is the order of things: nothing is changed before the image has begun
// to come and looks like one; the head is written when the rest is known to be
// on the disk.
func (w *writing) whole(ctx context.Context) (Result, error) {
	image, err := unpack(w.source)
	if err != nil {
		return Result{}, fmt.Errorf("cannot unpack the image: %w", err)
	}
	defer image.Close()
	if err := w.readHead(image); err != nil {
		return Result{}, err
	}
	if err := w.t.blank(); err != nil {
		return Result{}, half(err)
	}
	if err := w.pour(ctx, image); err != nil {
		return Result{}, half(err)
	}
	if err := w.verify(ctx); err != nil {
		return Result{}, half(err)
	}
	if err := w.t.writeHead(w.head); err != nil {
		return Result{}, half(err)
	}
	return Result{Disk: w.o.Disk, SHA256: w.source.sum(), Bytes: w.size}, w.t.reread()
}

// half tells what an error leaves behind.
func half(err error) error {
	hint := "the disk does not boot now; mend the cause and run the same again"
	if old := engine.Hint(err); old != "" {
		hint = old + "; " + hint
	}
	return engine.WithHint(err, "%s", hint)
}

// readHead reads the image's beginning, and refuses what no machine boots.
func (w *writing) readHead(image io.Reader) error {
	w.head = make([]byte, headSize)
	n, err := fill(image, w.head)
	if err != nil && !errors.Is(err, io.EOF) {
		return w.failed(err)
	}
	bootSector := n > 1024 && w.head[510] == 0x55 && w.head[511] == 0xaa
	superblock := n > 2048 && w.head[1080] == 0x53 && w.head[1081] == 0xef // ext2 to ext4
	if n < headSize || !bootSector && !superblock {
		return engine.WithHint(fmt.Errorf("cannot install %s: it is no disk image (no boot sector, no file system)", w.o.Image.URL),
			"a raw image is wanted, or one compressed by gzip, xz or zstd: qemu-img convert -O raw IMAGE RAW")
	}
	return nil
}

func (w *writing) failed(err error) error {
	if w.source.err != nil {
		return w.source.err
	}
	return fmt.Errorf("cannot unpack %s: %w", w.o.Image.URL, err)
}

// verify compares the image's sum, then what is on the disk with what was
// written.
func (w *writing) verify(ctx context.Context) error {
	if err := w.source.drain(); err != nil {
		return err
	}
	if got := w.source.sum(); got != w.o.Image.SHA256 {
		return engine.WithHint(fmt.Errorf("cannot use %s: its sha256 is %s (%d bytes), wanted %s", w.o.Image.URL, got, w.source.done, w.o.Image.SHA256),
			"correct the url or the sha256")
	}
	got, err := w.t.sumOfTail(ctx, w.size, w.o.Progress)
	if err != nil {
		return err
	}
	if got != w.tail {
		return engine.WithHint(fmt.Errorf("cannot trust %s: what it gives back is not what was written", w.o.Disk), "the disk is broken: replace it")
	}
	return nil
}

// CheckImage refuses an image that could not be had, or would have to be
// trusted unseen.
func CheckImage(image images.Remote) error {
	raw := image.URL.Reveal()
	if path, isFile := strings.CutPrefix(raw, "file://"); isFile || strings.HasPrefix(raw, "/") {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("cannot use --image: %s is no file's address, such as file:///srv/golden.raw", image.URL)
		}
		image.URL = "http://localhost/" // only the sum is left to be looked at
	}
	return image.Check("--image", "--sha256")
}

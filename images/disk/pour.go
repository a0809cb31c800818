package disk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/projecteru2/firstboot/internal/engine"
)

// chunk is written at a time, in bytes.
const chunk = 1 << 20

// pour writes what follows the head, and keeps its sum.
func (w *writing) pour(ctx context.Context, image io.Reader) error {
	quick := w.t.quickSum()
	buf, at := make([]byte, chunk), int64(len(w.head))
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := fill(image, buf)
		if n > 0 {
			if at+int64(n) > w.t.size {
				return engine.WithHint(fmt.Errorf("cannot install on %s: it has %d bytes, the image has more", w.o.Disk, w.t.size), "choose a larger disk")
			}
			if _, err := w.t.file.WriteAt(buf[:n], at); err != nil {
				return fmt.Errorf("cannot write to %s: %w", w.o.Disk, plain(err))
			}
			quick.Write(buf[:n])
			at += int64(n)
			w.o.Progress("writing", w.source.done, w.source.total)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return w.failed(err)
		}
	}
	w.size, w.tail = at, quick.Sum64()
	if err := w.t.file.Sync(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", w.o.Disk, plain(err))
	}
	return nil
}

// fill reads until buf is full or the source ends. Unlike io.ReadFull it tells
// an end, io.EOF, from a decompressor's complaint about a file that was cut.
func fill(from io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var more int
		more, err = from.Read(buf[n:])
		n += more
	}
	return n, err
}

package disk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/projecteru2/firstboot/internal/engine"
)

// chunkSize is the number of bytes read and written at a time.
const chunkSize = 1 << 20

// copyRest writes the image after its head, and computes its checksum.
func (w *installation) copyRest(ctx context.Context, image io.Reader) error {
	checksum := w.t.newChecksum()
	buf, at := make([]byte, chunkSize), int64(len(w.head))
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := readFull(image, buf)
		if n > 0 {
			if at+int64(n) > w.t.size {
				return engine.WithHint(fmt.Errorf("cannot install on %s: it has %d bytes, but the image is larger", w.o.Disk, w.t.size), "choose a larger disk")
			}
			if err := w.t.writeAt(buf[:n], at); err != nil {
				return err
			}
			checksum.Write(buf[:n])
			at += int64(n)
			w.o.Progress("writing", w.source.done, w.source.total)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return w.readError(err)
		}
	}
	w.size, w.rest = at, checksum.Sum64()
	return w.t.sync()
}

// readFull reads until buf is full or the source ends. At the end it returns io.EOF,
// even after some bytes. io.ReadFull returns io.ErrUnexpectedEOF then, which is also a
// decompressor's error for a truncated file.
func readFull(from io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var more int
		more, err = from.Read(buf[n:])
		n += more
	}
	return n, err
}

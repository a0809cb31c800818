package disk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz" // in the binary anyway: RPM packages need it
)

// maxWindow bounds a decompressor's memory, in bytes: zstd --ultra -22 and
// xz -9 need 128 and 64 MiB.
const maxWindow = 128 << 20

// unpack gives the raw image of what begins like gzip, xz or zstd; anything
// else is taken as it is.
func unpack(from io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(from, chunk)
	start, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(start, []byte("\xfd7zXZ\x00")):
		r, err := xz.NewReader(in, maxWindow)
		return io.NopCloser(r), err
	case bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	case bytes.HasPrefix(start, []byte("QFI\xfb")), bytes.HasPrefix(start, []byte("BZh")), bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return nil, fmt.Errorf("it is %s; raw, gzip, xz and zstd can be written", map[byte]string{'Q': "a qcow2 image", 'B': "compressed by bzip2", 'P': "a zip file"}[start[0]])
	}
	return io.NopCloser(in), nil
}

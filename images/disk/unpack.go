package disk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz" // already in the binary to read RPM packages
)

// maxWindow limits a decompressor's memory in bytes: zstd --ultra -22 needs 128 MiB,
// xz -9 needs 64 MiB.
const maxWindow = 128 << 20

// unpack decompresses gzip, xz and zstd, recognised by their first bytes. Other data
// is returned unchanged.
func unpack(from io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(from, chunkSize)
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
		return nil, fmt.Errorf("it is %s: use raw, gzip, xz or zstd", map[byte]string{'Q': "a qcow2 image", 'B': "compressed with bzip2", 'P': "a zip file"}[start[0]])
	}
	return io.NopCloser(in), nil
}

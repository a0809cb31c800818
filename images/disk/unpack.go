package disk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz" // already in the binary to read RPM packages
)

// maxWindow limits a decompressor's memory in bytes: zstd --ultra -22 needs 128 MiB,
// xz -9 needs 64 MiB.
const maxWindow = 128 << 20

// headerSize is the number of bytes from which the format is recognised: the
// longest header of a zstd frame.
const headerSize = zstd.HeaderMaxSize

// unpack decompresses gzip, xz and zstd, recognised by their first bytes. Other data
// is returned unchanged. total is the size of the data, or 0 if it is unknown. least is
// the least size of the image in bytes, as far as the data states it before it is read.
func unpack(from io.Reader, total int64) (image io.ReadCloser, least int64, err error) {
	in := bufio.NewReaderSize(from, chunkSize)
	start, err := in.Peek(headerSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		image, err = gzip.NewReader(in)
		return image, 0, err
	case bytes.HasPrefix(start, []byte("\xfd7zXZ\x00")):
		r, err := xz.NewReader(in, maxWindow)
		return io.NopCloser(r), 0, err
	case bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, 0, err
		}
		return r.IOReadCloser(), frameSize(start), nil
	case bytes.HasPrefix(start, []byte("QFI\xfb")), bytes.HasPrefix(start, []byte("BZh")), bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return nil, 0, fmt.Errorf("it is %s: use raw, gzip, xz or zstd", map[byte]string{'Q': "a qcow2 image", 'B': "compressed with bzip2", 'P': "a zip file"}[start[0]])
	}
	return io.NopCloser(in), total, nil
}

// frameSize returns the uncompressed size of the first zstd frame, or 0 if its header
// does not state it.
func frameSize(start []byte) int64 {
	var h zstd.Header
	if h.Decode(start) != nil || !h.HasFCS || h.FrameContentSize > math.MaxInt64 {
		return 0
	}
	return int64(h.FrameContentSize)
}

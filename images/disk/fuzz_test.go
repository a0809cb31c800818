package disk

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxUnpacked limits what the fuzz target reads of one image, in bytes.
const maxUnpacked = 1 << 20

// FuzzUnpack checks that no image makes unpack panic, and that the size that it states
// beforehand is at most the size of the image.
func FuzzUnpack(f *testing.F) {
	raw := append([]byte("boot sector"), make([]byte, 4096)...)
	for _, write := range []func(io.Writer) (io.WriteCloser, error){
		func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{DictCap: 4096}.NewWriter(w) },
		func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithWindowSize(1<<10)) },
	} {
		var b bytes.Buffer
		w, err := write(&b)
		if err == nil {
			_, err = w.Write(raw)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add(raw)
	f.Add([]byte("QFI\xfb"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		image, least, err := unpack(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		defer image.Close()
		n, err := io.Copy(io.Discard, io.LimitReader(image, maxUnpacked))
		if least < 0 || err == nil && n < maxUnpacked && n < least {
			t.Errorf("the image has %d bytes, unpack stated at least %d", n, least)
		}
	})
}

package disk

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/engine"
)

// imageFile writes an image file and returns its path.
func imageFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(inMemory(t), "golden")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// An image that is a file is verified before the disk loses its data.
func TestLocalImageIsVerifiedBeforeTheDiskIsChanged(t *testing.T) {
	raw := image(t)
	for _, format := range []string{"raw", "gzip", "xz", "zstd"} {
		whole := compress(t, format, raw)
		half := whole[:len(whole)/2]
		damaged := bytes.Clone(whole)
		for i := len(whole) / 2; i < len(whole)/2+64; i++ {
			damaged[i] ^= 0xff
		}
		for name, c := range map[string]struct {
			file, pinned []byte
			size         int64 // of the disk
			want         string
		}{
			"wrong digest":               {whole, []byte("x"), diskSize, "its sha256 is"},
			"truncated":                  {half, whole, diskSize, "its sha256 is"},
			"damaged":                    {damaged, whole, diskSize, "its sha256 is"},
			"truncated, with its digest": {half, half, diskSize, "cannot unpack"},
			"larger than the disk":       {whole, whole, 2 << 20, "disk-too-small"},
			"one byte too large":         {whole, whole, int64(len(raw)) - 1, "disk-too-small"},
		} {
			if format == "raw" && name == "truncated, with its digest" {
				continue // a raw image may end anywhere
			}
			disk := blankDisk(t, c.size, []byte("my data"))
			before := content(t, disk)
			o := options(imageFile(t, c.file), c.pinned, disk)
			o.Wipe = true
			_, err := write(t, o)
			var refusal *engine.Refusal
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(engine.Hint(err), "does not boot") ||
				c.want == "disk-too-small" && !errors.As(err, &refusal) {
				t.Errorf("%s, %s: %v (%s)", format, name, err, engine.Hint(err))
			}
			if !bytes.Equal(before, content(t, disk)) {
				t.Errorf("%s, %s: the disk was changed", format, name)
			}
		}
		disk := blankDisk(t, int64(len(raw)), []byte("my data"))
		o := options(imageFile(t, whole), whole, disk)
		o.Wipe = true
		if _, err := write(t, o); err != nil || !bytes.Equal(content(t, disk), raw) {
			t.Errorf("%s: an image as large as the disk: %v", format, err)
		}
	}
}

// The size of a compressed image on a server may be unknown. That is reported before
// the disk is changed.
func TestUnknownSizeIsReportedBeforeTheDiskIsChanged(t *testing.T) {
	raw := image(t)
	for name, c := range map[string]struct {
		served  []byte
		length  bool // the server sends a Content-Length
		unknown bool
	}{
		"raw":                  {raw, true, false},
		"raw, without length":  {raw, false, true},
		"gzip":                 {compress(t, "gzip", raw), true, true},
		"xz":                   {compress(t, "xz", raw), true, true},
		"zstd, from a pipe":    {compress(t, "zstd", raw), true, true},
		"zstd, with its size":  {zstdWithSize(t, raw), true, false},
		"zstd, without length": {zstdWithSize(t, raw), false, false},
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if c.length {
				w.Header().Set("Content-Length", strconv.Itoa(len(c.served)))
			}
			_, _ = w.Write(c.served)
		})
		for _, prompt := range []bool{false, true} {
			disk := blankDisk(t, diskSize, []byte("my data"))
			o := options(url, c.served, disk)
			o.Wipe = !prompt
			reported := 0
			unchanged := func() {
				if !bytes.HasPrefix(content(t, disk), []byte("my data")) {
					t.Errorf("%s: the disk was changed before", name)
				}
			}
			o.SizeUnknown = func() { reported++; unchanged() }
			o.Confirm = func(_ string, sized bool) bool {
				if unchanged(); sized == c.unknown {
					t.Errorf("%s: the prompt gets sized %v", name, sized)
				}
				return true
			}
			want := 0
			if c.unknown && !prompt {
				want = 1
			}
			if _, err := write(t, o); err != nil || reported != want || !bytes.HasPrefix(content(t, disk), raw) {
				t.Errorf("%s, prompt %v: reported %d times, want %d; %v", name, prompt, reported, want, err)
			}
		}
	}
}

// A disk that is too small does not boot afterwards, if only writing the image showed
// that.
func TestDiskSmallerThanAnImageOfUnknownSizeDoesNotBoot(t *testing.T) {
	raw := image(t)
	for _, format := range []string{"gzip", "xz", "zstd"} {
		served := compress(t, format, raw)
		disk := blankDisk(t, 2<<20, []byte("my data"))
		o := options(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(served) }), served, disk)
		o.Wipe = true
		_, err := write(t, o)
		if err == nil || !strings.Contains(err.Error(), "it has 2097152 bytes, but the image is larger") || !strings.Contains(engine.Hint(err), "the disk does not boot now") {
			t.Errorf("%s: %v (%s)", format, err, engine.Hint(err))
		}
		if !isUnfinished(content(t, disk)) {
			t.Errorf("%s: the disk boots", format)
		}
	}
}

package artifact

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/test/powercut"
)

// piecewise serves data with an ETag, and closes each connection after a part of it.
func piecewise(t *testing.T, data func() []byte) string {
	t.Helper()
	return server(t, func(w http.ResponseWriter, r *http.Request) {
		start, all := 0, data()
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start)
		w.Header().Set("ETag", strconv.Quote(digestOf(all)))
		if start > 0 && r.Header.Get("If-Range") != strconv.Quote(digestOf(all)) || start >= len(all) {
			start = 0
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(all)-start))
		if start > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(all)-1, len(all)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(all[start:min(start+400, len(all))])
	})
}

// After a power cut the cache never returns a damaged file, and the next fetch ends
// with the file. Without a digest only the name in the cache shows that it is complete.
func TestFetchIsCompletedAfterEveryPowerCut(t *testing.T) {
	pinned, older, newer := noise(1000), noise(390), noise(380)
	unpinned := older
	refs := []Ref{
		{Name: "pinned", URL: piecewise(t, func() []byte { return pinned }), SHA256: digestOf(pinned)},
		{Name: "unpinned", URL: piecewise(t, func() []byte { return unpinned })},
	}
	open := func(root string) *Store { return NewStore(Options{Cache: filepath.Join(root, "cache")}) }
	get := func(t *testing.T, s *Store, ref Ref) []byte {
		t.Helper()
		path, err := s.Get(t.Context(), ref, nil)
		for retries := 0; err != nil && !fault.IsPermanent(err) && retries < 3; retries++ { // like the caller
			path, err = s.Get(t.Context(), ref, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "cache"), 0o700); err != nil {
		t.Fatal(err)
	}
	get(t, open(root), refs[1])
	powercut.TestFiles(t, root, nil, func(record func(host.FileOp)) {
		s := open(root)
		s.record = record
		get(t, s, refs[0])
		unpinned = newer
		if err := s.Remove(refs[1]); err != nil {
			t.Fatal(err)
		}
		get(t, s, refs[1])
	}, func(t *testing.T, root string) {
		s := open(root)
		if got := get(t, s, refs[0]); !bytes.Equal(got, pinned) {
			t.Errorf("pinned: %d bytes", len(got))
		}
		if got := get(t, s, refs[1]); !bytes.Equal(got, older) && !bytes.Equal(got, newer) {
			t.Errorf("unpinned: %d bytes of neither file", len(got))
		}
		wantCache(t, s, refs[0].key(), refs[1].key())
	})
}

package artifact

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leave puts what a power cut leaves into the cache.
func leave(t *testing.T, s *Store, ref Ref, content []byte, v version) {
	t.Helper()
	if err := os.MkdirAll(s.cache, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &part{path: filepath.Join(s.cache, ref.key()+".part")}
	if err := os.WriteFile(p.path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.setVersion(v); err != nil {
		t.Fatal(err)
	}
}

// A connection that breaks again and again: each time only the rest is asked
// for, and the server is told of which version.
func TestBrokenConnectionIsResumed(t *testing.T) {
	data := noise(100_000)
	var ranges, conditions []string
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		conditions = append(conditions, r.Header.Get("If-Range"))
		start := 0
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start)
		end := min(start+40_000, len(data))
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-start))
		if start > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(data[start:end])
	})
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: sumOf(data)}
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
	wantCache(t, s, ref.SHA256)
	if got := fmt.Sprint(ranges); got != "[ bytes=40000- bytes=80000-]" {
		t.Errorf("asked for %s", got)
	}
	if got := fmt.Sprint(conditions); got != `[ "one" "one"]` {
		t.Errorf("asked under the conditions %s", got)
	}
}

func TestPowerCutIsResumed(t *testing.T) {
	data := noise(100_000)
	for what, test := range map[string]struct {
		part     []byte
		version  version
		requests int32
		log      string
	}{
		"in the middle":              {data[:70_000], version{}, 1, ""},
		"with a note":                {data[:70_000], version{LastModified: time.Unix(1e9, 0).UTC().Format(http.TimeFormat)}, 1, ""},
		"of an older version":        {data[:70_000], version{LastModified: time.Unix(1e8, 0).UTC().Format(http.TimeFormat)}, 1, ""},
		"before the rename":          {data, version{}, 0, ""},
		"before the first byte":      {nil, version{}, 1, ""},
		"with zeros at the end":      {append(append([]byte{}, data[:50_000]...), make([]byte, 20_000)...), version{}, 2, "fetching it whole"},
		"of the full length, zeroed": {make([]byte, len(data)), version{}, 1, ""},
		"longer than the file":       {noise(200_000), version{}, 1, ""},
		"with a spoiled note":        {data[:70_000], version{ETag: "\x00\x00"}, 1, ""},
	} {
		t.Run(what, func(t *testing.T) {
			url, requests := serve(t, data)
			s, log := logged(t, nil)
			ref := Ref{Name: "x", URL: url, SHA256: sumOf(data)}
			leave(t, s, ref, test.part, test.version)
			if s.Has(ref) {
				t.Error("a partial file counts as the whole one")
			}
			path, err := s.Get(t.Context(), ref, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, data)
			wantCache(t, s, ref.SHA256)
			// What was asked with a range that the server cannot serve is
			// asked again without.
			extra := int32(0)
			if len(test.part) >= len(data) && test.requests > 0 {
				extra = 1
			}
			if requests.Load() != test.requests+extra {
				t.Errorf("%d requests, want %d", requests.Load(), test.requests+extra)
			}
			if !strings.Contains(log.String(), test.log) {
				t.Errorf("log %q, want %q", log, test.log)
			}
		})
	}
}

func TestServerThatIgnoresRangesStartsOver(t *testing.T) {
	data := noise(100_000)
	url := server(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(data) })
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: sumOf(data)}
	leave(t, s, ref, noise(70_000), version{ETag: `"old"`})
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
}

// A server that sends another part than the one asked for is not believed.
func TestWrongRangeIsNotBelieved(t *testing.T) {
	data := noise(1000)
	for _, header := range []string{"bytes 0-999/1000", "bytes 501-999/1000", "bytes 500-400/1000", "bytes 500-999/900", "bytes x-y/z", "items 500-999/1000", ""} {
		wrong := true
		url := server(t, func(w http.ResponseWriter, r *http.Request) {
			if wrong {
				wrong = false
				w.Header().Set("Content-Range", header)
				w.WriteHeader(http.StatusPartialContent)
				w.Write(data[500:])
				return
			}
			w.Write(data)
		})
		s, _ := logged(t, nil)
		ref := Ref{Name: "x", URL: url, SHA256: sumOf(data)}
		leave(t, s, ref, data[:500], version{})
		if _, err := s.Get(t.Context(), ref, nil); err == nil || IsPermanent(err) || !strings.Contains(err.Error(), "another part") {
			t.Errorf("%q: %v, want a temporary error", header, err)
		}
		path, err := s.Get(t.Context(), ref, nil)
		if err != nil {
			t.Errorf("%q: the next try: %v", header, err)
			continue
		}
		wantFile(t, path, data)
	}
}

// Without a digest nothing tells whether two parts fit: it is fetched whole.
func TestUnpinnedPartIsNotResumed(t *testing.T) {
	data := noise(1000)
	url, _ := serve(t, data)
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url}
	leave(t, s, ref, noise(500), version{})
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
}

// A server that is cut off keeps what there is for the next try.
func TestGivenUpFetchKeepsItsPart(t *testing.T) {
	data := noise(100_000)
	broken := true
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if !broken {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
			return
		}
		if r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:60_000])
	})
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: sumOf(data)}
	if _, err := s.Get(t.Context(), ref, nil); err == nil || IsPermanent(err) {
		t.Fatalf("Get = %v, want a temporary error", err)
	}
	info, err := os.Stat(filepath.Join(s.cache, ref.SHA256+".part"))
	if err != nil || info.Size() != 60_000 {
		t.Fatalf("the partial file is %v, %v; want 60000 bytes", info, err)
	}
	broken = false
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
}

// Over HTTP/1.0 without a length a cut looks like an end: the digest tells,
// and another try may help.
func TestCutWithoutLengthIsTemporary(t *testing.T) {
	data := noise(1000)
	url := server(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, out, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		out.WriteString("HTTP/1.0 200 OK\r\n\r\n")
		out.Write(data[:500])
		out.Flush()
	})
	s, _ := logged(t, nil)
	_, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: sumOf(data)}, nil)
	if err == nil || IsPermanent(err) {
		t.Errorf("Get = %v, want a temporary error", err)
	}
	wantCache(t, s)
}

func TestTwoProcessesDoNotFetchOneArtifact(t *testing.T) {
	data := noise(1000)
	url, _ := serve(t, data)
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: sumOf(data)}
	other, err := openPart(t.Context(), s.cache, ref.key())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), ref, nil); err == nil || IsPermanent(err) || !strings.Contains(err.Error(), "another firstboot") {
		t.Errorf("Get = %v, want to be told of the other one", err)
	}
	other.close()
	if _, err := s.Get(t.Context(), ref, nil); err != nil {
		t.Error(err)
	}
}

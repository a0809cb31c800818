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

	"github.com/projecteru2/firstboot/internal/fault"
)

// writePartial writes a partial file into the cache, as a power cut leaves it.
func writePartial(t *testing.T, s *Store, ref Ref, content []byte, v validators) {
	t.Helper()
	if err := os.MkdirAll(s.cache, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &partialFile{path: filepath.Join(s.cache, ref.key()+".part")}
	if err := os.WriteFile(p.path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.setValidators(v); err != nil {
		t.Fatal(err)
	}
}

// After each interruption, only the rest of the same version is requested.
func TestInterruptedTransferIsResumed(t *testing.T) {
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
	ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
	wantCache(t, s, ref.SHA256)
	if got := fmt.Sprint(ranges); got != "[ bytes=40000- bytes=80000-]" {
		t.Errorf("requested ranges %s", got)
	}
	if got := fmt.Sprint(conditions); got != `[ "one" "one"]` {
		t.Errorf("If-Range headers %s", got)
	}
}

func TestFetchIsResumedAfterPowerCut(t *testing.T) {
	data := noise(100_000)
	for what, test := range map[string]struct {
		part     []byte
		version  validators
		requests int32
		log      string
	}{
		"in the middle":           {data[:70_000], validators{}, 1, ""},
		"with validators":         {data[:70_000], validators{LastModified: time.Unix(1e9, 0).UTC().Format(http.TimeFormat)}, 1, ""},
		"of an older version":     {data[:70_000], validators{LastModified: time.Unix(1e8, 0).UTC().Format(http.TimeFormat)}, 1, ""},
		"before the rename":       {data, validators{}, 0, ""},
		"before the first byte":   {nil, validators{}, 1, ""},
		"zeros at the end":        {append(append([]byte{}, data[:50_000]...), make([]byte, 20_000)...), validators{}, 2, "fetching the whole file"},
		"full length of zeros":    {make([]byte, len(data)), validators{}, 1, ""},
		"longer than the file":    {noise(200_000), validators{}, 1, ""},
		"with damaged validators": {data[:70_000], validators{ETag: "\x00\x00"}, 1, ""},
	} {
		t.Run(what, func(t *testing.T) {
			url, requests := serve(t, data)
			s, log := logged(t, nil)
			ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
			writePartial(t, s, ref, test.part, test.version)
			if s.Has(ref) {
				t.Error("Has reports true for a partial file")
			}
			path, err := s.Get(t.Context(), ref, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, data)
			wantCache(t, s, ref.SHA256)
			// After an unsatisfiable range, the whole file is requested.
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

func TestServerWithoutRangesSendsWholeFile(t *testing.T) {
	data := noise(100_000)
	url := server(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(data) })
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
	writePartial(t, s, ref, noise(70_000), validators{ETag: `"old"`})
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
}

func TestWrongContentRangeIsTransientError(t *testing.T) {
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
		ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
		writePartial(t, s, ref, data[:500], validators{})
		if _, err := s.Get(t.Context(), ref, nil); err == nil || fault.IsPermanent(err) || !strings.Contains(err.Error(), "a range that was not requested") {
			t.Errorf("%q: %v, want a transient error", header, err)
		}
		path, err := s.Get(t.Context(), ref, nil)
		if err != nil {
			t.Errorf("%q: the next attempt: %v", header, err)
			continue
		}
		wantFile(t, path, data)
	}
}

// Without a digest, a wrong continuation would go unnoticed.
func TestUnpinnedArtifactIsNotResumed(t *testing.T) {
	data := noise(1000)
	url, _ := serve(t, data)
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url}
	writePartial(t, s, ref, noise(500), validators{})
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
}

func TestFailedFetchKeepsPartialFile(t *testing.T) {
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
	ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
	if _, err := s.Get(t.Context(), ref, nil); err == nil || fault.IsPermanent(err) {
		t.Fatalf("Get = %v, want a transient error", err)
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

// Over HTTP/1.0 without a length, an interruption looks like the end of the
// file. Only the digest reveals it.
func TestTruncatedBodyWithoutLengthIsTransientError(t *testing.T) {
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
	_, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(data)}, nil)
	if err == nil || fault.IsPermanent(err) {
		t.Errorf("Get = %v, want a transient error", err)
	}
	wantCache(t, s)
}

func TestConcurrentProcessesDoNotFetchTheSameArtifact(t *testing.T) {
	data := noise(1000)
	url, _ := serve(t, data)
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
	other, err := openPartial(t.Context(), s.cache, ref.key(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), ref, nil); err == nil || fault.IsPermanent(err) || !strings.Contains(err.Error(), "another firstboot process") {
		t.Errorf("Get = %v, want a transient error that names the other process", err)
	}
	other.close()
	if _, err := s.Get(t.Context(), ref, nil); err != nil {
		t.Error(err)
	}
}

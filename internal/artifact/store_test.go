package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/web"
)

func digestOf(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

// noise returns n pseudo-random bytes.
func noise(n int) []byte {
	data := make([]byte, n)
	source := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range data {
		data[i] = byte(source.Uint32())
	}
	return data
}

// logged makes a Store with an empty cache and returns what it logs.
func logged(t *testing.T, change func(*Options)) (*Store, *notes) {
	t.Helper()
	n := &notes{}
	o := Options{Cache: filepath.Join(t.TempDir(), "cache"), Log: n.add, StallTimeout: 5 * time.Second}
	if change != nil {
		change(&o)
	}
	return NewStore(o), n
}

type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, s)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

// serve serves one file, with ranges and validators, and counts the requests.
func serve(t *testing.T, data []byte) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	url = server(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.ServeContent(w, r, "", time.Unix(1e9, 0), strings.NewReader(string(data)))
	})
	return url, requests
}

func server(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL + "/file"
}

// wantFile checks the content of path.
func wantFile(t *testing.T, path string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != string(data) {
		t.Fatalf("%s has %d bytes (%v), want %d", path, len(got), err, len(data))
	}
}

// wantCache checks the names in the cache.
func wantCache(t *testing.T, s *Store, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(s.cache)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	if fmt.Sprint(found) != fmt.Sprint(names) {
		t.Errorf("the cache contains %v, want %v", found, names)
	}
}

func TestSecondGetUsesTheCache(t *testing.T) {
	data := noise(300_000)
	url, requests := serve(t, data)
	ref := Ref{Name: "calicoctl", URL: url, SHA256: digestOf(data)}
	s, _ := logged(t, nil)
	if s.Has(ref) {
		t.Error("Has reports true before the fetch")
	}
	var done, total int64
	path, err := s.Get(t.Context(), ref, func(d, n int64) { done, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
	wantCache(t, s, ref.SHA256)
	if done != int64(len(data)) || total != done {
		t.Errorf("progress ended at %d of %d, want %d", done, total, len(data))
	}
	if found, ok := s.Lookup(ref); !ok || found != path {
		t.Errorf("Lookup = %q, %v; want %q", found, ok, path)
	}
	if _, err := s.Get(t.Context(), ref, nil); err != nil || requests.Load() != 1 {
		t.Errorf("second Get: %v, %d requests; want 1 in all", err, requests.Load())
	}
	info, err := os.Stat(s.cache)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache's mode is %v, want 0700", info.Mode().Perm())
	}
}

func TestGetAcceptsFileURLsAndPaths(t *testing.T) {
	data := noise(1000)
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{file, "file://" + strings.ReplaceAll(file, " ", "%20"), "file://localhost" + strings.ReplaceAll(file, " ", "%20")} {
		s, _ := logged(t, nil)
		path, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(data)}, nil)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		wantFile(t, path, data)
	}
}

func TestWrongFileIsRejectedAndRemoved(t *testing.T) {
	url, _ := serve(t, []byte("<html>not what you want</html>"))
	want := digestOf([]byte("the right one"))
	s, _ := logged(t, nil)
	_, err := s.Get(t.Context(), Ref{Name: "calicoctl", URL: url, SHA256: want}, nil)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || !fault.IsPermanent(err) {
		t.Fatalf("Get = %v, want a permanent MismatchError", err)
	}
	got := digestOf([]byte("<html>not what you want</html>"))
	for _, text := range []string{want, got, url, "calicoctl"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not name %s", err, text)
		}
	}
	if !strings.Contains(mismatch.Hint(), "error page") {
		t.Errorf("the hint for a tiny file is %q", mismatch.Hint())
	}
	wantCache(t, s)
}

func TestStatusCodesArePermanentOrTransient(t *testing.T) {
	for status, permanent := range map[int]bool{
		400: true, 401: true, 403: true, 404: true, 410: true, 407: true,
		408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 504: false,
		204: true, 206: false, 304: true,
	} {
		s, _ := logged(t, nil)
		url := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
		})
		_, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(nil)}, nil)
		var e *Error
		if !errors.As(err, &e) || fault.IsPermanent(err) != permanent {
			t.Errorf("status %d: %v is permanent: %v, want %v", status, err, fault.IsPermanent(err), permanent)
			continue
		}
		if status != 206 && !strings.Contains(err.Error(), strconv.Itoa(status)) {
			t.Errorf("%v does not name status %d", err, status)
		}
		if !permanent && status != 206 && e.RetryAfter() != 7*time.Second {
			t.Errorf("status %d: RetryAfter %v, want 7s", status, e.RetryAfter())
		}
		wantCache(t, s)
	}
}

func TestInvalidSourcesArePermanentErrors(t *testing.T) {
	dir := t.TempDir()
	for _, url := range []string{
		"ftp://host/x", "relative/path", "http://", "http://[::1", "file://elsewhere/x", "file:relative",
		dir, filepath.Join(dir, "missing"), "",
	} {
		s, _ := logged(t, nil)
		if _, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(nil)}, nil); !fault.IsPermanent(err) {
			t.Errorf("%q: %v, want a permanent error", url, err)
		}
	}
	s, _ := logged(t, nil)
	for _, digest := range []string{"abc", strings.ToUpper(digestOf(nil)), digestOf(nil) + "0", "../../../../etc/passwd"} {
		if _, err := s.Get(t.Context(), Ref{Name: "x", URL: "/dev/null", SHA256: digest}, nil); !fault.IsPermanent(err) {
			t.Errorf("sha256 %q: %v, want a permanent error", digest, err)
		}
		if _, ok := s.Lookup(Ref{Name: "x", SHA256: digest}); ok {
			t.Errorf("Lookup with sha256 %q found a file", digest)
		}
	}
}

func TestRefusedConnectionIsTransientError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s, _ := logged(t, nil)
	_, err = s.Get(t.Context(), Ref{Name: "x", URL: "http://" + l.Addr().String() + "/x", SHA256: digestOf(nil)}, nil)
	if err == nil || fault.IsPermanent(err) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Get = %v, want a transient connection refused", err)
	}
}

func TestErrorsAndLogContainNoCredentials(t *testing.T) {
	const password, token = "s3cret-word", "s1gned-query"
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	small := func(handle http.HandlerFunc) string {
		return strings.TrimPrefix(server(t, handle), "http://")
	}
	for what, at := range map[string]string{
		"not found":     small(http.NotFound),
		"wrong digest":  small(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("wrong")) }),
		"refused":       refused.Addr().String() + "/x",
		"no host":       "/x",
		"bad port":      "host:port:port/x",
		"redirect loop": small(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), 302) }),
		"redirect to an invalid url": small(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://"+token+":x:y/")
			w.WriteHeader(302)
		}),
		"redirect to another scheme": small(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "gopher://x/?"+token, 302) }),
		"interrupted": small(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("short"))
		}),
	} {
		s, log := logged(t, nil)
		_, err := s.Get(t.Context(), Ref{Name: "x", URL: "http://user:" + password + "@" + at + "?sig=" + token, SHA256: digestOf(nil)}, nil)
		if err == nil {
			t.Errorf("%s: no error", what)
		}
		if all := fmt.Sprintf("%v %+v %s", err, err, log); strings.Contains(all, password) || strings.Contains(all, token) {
			t.Errorf("%s: %s", what, all)
		}
	}
}

func TestRedirectsAreLimited(t *testing.T) {
	data := noise(100)
	var seen atomic.Value
	hops := 0
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if n, _ := strconv.Atoi(r.URL.Query().Get("n")); n < hops {
			http.Redirect(w, r, fmt.Sprintf("/file?n=%d", n+1), http.StatusFound)
			return
		}
		seen.Store(r.Header.Get("Referer"))
		w.Write(data)
	})
	hops = 10
	s, _ := logged(t, nil)
	if _, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(data)}, nil); err != nil {
		t.Errorf("%d redirects: %v", hops, err)
	}
	if seen.Load() != "" {
		t.Errorf("the Referer is sent: %q", seen.Load())
	}
	hops = 10 + 1
	s, _ = logged(t, nil)
	if _, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(data)}, nil); !fault.IsPermanent(err) || !strings.Contains(err.Error(), "redirected") {
		t.Errorf("%d redirects: %v, want a permanent error", hops, err)
	}
}

func TestTooLargeFileIsRejected(t *testing.T) {
	data := noise(5000)
	url, _ := serve(t, data)
	endless := server(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(data); err != nil {
				return
			}
		}
	})
	file := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{url, endless, file} {
		s, _ := logged(t, func(o *Options) { o.MaxSize = 4999 })
		_, err := s.Get(t.Context(), Ref{Name: "x", URL: from, SHA256: digestOf(data)}, nil)
		if !fault.IsPermanent(err) || !strings.Contains(err.Error(), "4999") {
			t.Errorf("%s: %v, want a permanent error with the limit", from, err)
		}
		wantCache(t, s)
	}
	s, _ := logged(t, func(o *Options) { o.MaxSize = 5000 })
	if _, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(data)}, nil); err != nil {
		t.Errorf("a file of exactly the maximum: %v", err)
	}
}

func TestStalledServerIsTransientError(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	before := server(t, func(http.ResponseWriter, *http.Request) { <-release })
	within := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(noise(10))
		w.(http.Flusher).Flush()
		<-release
	})
	for _, url := range []string{before, within} {
		s, _ := logged(t, func(o *Options) { o.StallTimeout = 50 * time.Millisecond })
		_, err := s.Get(t.Context(), Ref{Name: "x", URL: url, SHA256: digestOf(noise(1000))}, nil)
		if err == nil || fault.IsPermanent(err) || !strings.Contains(err.Error(), "sent nothing for 50ms") {
			t.Errorf("Get = %v, want a transient error about the stall", err)
		}
	}
}

func TestConcurrentGetsFetchOnce(t *testing.T) {
	data := noise(50_000)
	start := make(chan struct{})
	var requests atomic.Int32
	url := server(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		<-start
		w.Write(data)
	})
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
	var reports atomic.Int32
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := s.Get(t.Context(), ref, func(int64, int64) { reports.Add(1) }); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, func() bool { return s.progress.count(ref.key()) == 10 })
	close(start)
	wg.Wait()
	if requests.Load() != 1 {
		t.Errorf("%d requests, want 1", requests.Load())
	}
	if reports.Load() < 10 {
		t.Errorf("%d progress reports, want at least 10", reports.Load())
	}
}

// count returns the number of listeners of a key.
func (l *progressListeners) count(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byKey[key])
}

// waitFor polls a condition and fails after ten seconds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("timed out after 10s")
		}
	}
}

// The first caller's context ends only its own Get. The second caller resumes
// the fetch.
func TestSecondGetResumesWhenTheFirstIsCanceled(t *testing.T) {
	data := noise(100_000)
	var requests atomic.Int32
	firstHalf, resumedAt := make(chan struct{}), make(chan string, 1)
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			w.Write(data[:60_000])
			w.(http.Flusher).Flush()
			close(firstHalf)
			<-r.Context().Done()
			return
		}
		resumedAt <- r.Header.Get("Range")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
	})
	s, _ := logged(t, nil)
	ref := Ref{Name: "x", URL: url, SHA256: digestOf(data)}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := s.Get(ctx, ref, func(int64, int64) {}); first <- err }()
	<-firstHalf
	waitFor(t, func() bool {
		info, err := os.Stat(filepath.Join(s.cache, ref.SHA256+".part"))
		return err == nil && info.Size() == 60_000
	})
	go func() { _, err := s.Get(t.Context(), ref, func(int64, int64) {}); second <- err }()
	waitFor(t, func() bool { return s.progress.count(ref.key()) == 2 })
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) || fault.IsPermanent(err) {
		t.Errorf("first Get = %v, want canceled", err)
	}
	if err := <-second; err != nil {
		t.Errorf("second Get = %v", err)
	}
	if requested := <-resumedAt; requested != "bytes=60000-" {
		t.Errorf("the second fetch requested %q, want the rest", requested)
	}
}

func TestDamagedCacheFileIsFetchedAgain(t *testing.T) {
	data := noise(1000)
	url, requests := serve(t, data)
	ref := Ref{Name: "calicoctl", URL: url, SHA256: digestOf(data)}
	s, log := logged(t, nil)
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:999], 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err = s.Get(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
	if requests.Load() != 2 || !strings.Contains(log.String(), "damaged") {
		t.Errorf("%d requests, log %q; want 2, and the damage in the log", requests.Load(), log)
	}
}

func TestArtifactWithoutDigestIsCachedByURL(t *testing.T) {
	data := noise(1000)
	url, requests := serve(t, data)
	s, _ := logged(t, nil)
	ref := Ref{Name: "eru-minions", URL: url}
	path, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, data)
	withUser := Ref{Name: "eru-minions", URL: strings.Replace(url, "http://", "http://user:other@", 1)}
	if again, err := s.Get(t.Context(), withUser, nil); err != nil || again != path || requests.Load() != 1 {
		t.Errorf("with another password: %q, %v, %d requests; want the same file without a request", again, err, requests.Load())
	}
	if other, ok := s.Lookup(Ref{Name: "eru-minions", URL: url + "2"}); ok {
		t.Errorf("Lookup with another url found %s", other)
	}
	if err := s.Remove(ref); err != nil || s.Has(ref) {
		t.Errorf("Remove = %v, then Has = %v", err, s.Has(ref))
	}
	if err := s.Remove(ref); err != nil {
		t.Errorf("a second Remove = %v", err)
	}
}

func TestProxyIsUsed(t *testing.T) {
	data := noise(100)
	requested := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requested <- r.URL.String()
		w.Write(data)
	}))
	defer proxy.Close()
	s, _ := logged(t, func(o *Options) { o.Proxy = web.Proxy(proxy.URL, "", "direct.example") })
	if _, err := s.Get(t.Context(), Ref{Name: "x", URL: "http://files.example/x", SHA256: digestOf(data)}, nil); err != nil {
		t.Fatal(err)
	}
	if url := <-requested; url != "http://files.example/x" {
		t.Errorf("the proxy received a request for %q", url)
	}
}

// chunked serves data without its length.
func chunked(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for part := range slices.Chunk(data, 10_000) {
			w.Write(part)
			w.(http.Flusher).Flush()
		}
	}
}

func TestFileOfUnknownLengthIsFetched(t *testing.T) {
	data := noise(100_000)
	for _, digest := range []string{digestOf(data), ""} {
		s, _ := logged(t, nil)
		path, err := s.Get(t.Context(), Ref{Name: "x", URL: server(t, chunked(data)), SHA256: digest}, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, data)
	}
}

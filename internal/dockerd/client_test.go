package dockerd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
)

// fakeDaemon serves a range of versions of the Engine API on a socket of a root
// directory.
type fakeDaemon struct {
	minimum, maximum string
	answer           http.HandlerFunc // to requests of a version

	mu       sync.Mutex
	requests []string
}

func (d *fakeDaemon) start(t *testing.T) *host.Host {
	t.Helper()
	root, err := os.MkdirTemp("", "d") // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	serveOn(t, filepath.Join(root, Socket), d)
	return host.New(root)
}

func serveOn(t *testing.T, socket string, handler http.Handler) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	t.Cleanup(func() { server.Close() })
	go func() { _ = server.Serve(l) }()
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.requests = append(d.requests, r.URL.Path)
	d.mu.Unlock()
	w.Header().Set("Api-Version", d.maximum)
	switch {
	case r.URL.Path == "/_ping":
		_, _ = io.WriteString(w, "OK")
	case r.URL.Path == "/version":
		_, _ = io.WriteString(w, `{"ApiVersion":"`+d.maximum+`","MinAPIVersion":"`+d.minimum+`"}`)
	case d.answer != nil:
		d.answer(w, r)
	default:
		_, _ = io.WriteString(w, `{"ServerVersion":"1"}`)
	}
}

func TestNewestCommonAPIVersionIsUsed(t *testing.T) {
	for _, test := range []struct{ release, minimum, maximum, want string }{
		{"19.03", "1.12", "1.40", "/v1.40/info"},
		{"20.10", "1.12", "1.41", "/v1.41/info"},
		{"24", "1.12", "1.43", "/v1.43/info"},
		{"25", "1.24", "1.44", "/v1.44/info"},
		{"27", "1.24", "1.47", "/v1.44/info"},
		{"29", "1.44", "1.52", "/v1.44/info"},
		{"a later one", "1.48", "1.60", "/v1.48/info"},
		{"another major version", "2.0", "2.3", "/v2.0/info"},
	} {
		daemon := &fakeDaemon{minimum: test.minimum, maximum: test.maximum}
		docker := New(daemon.start(t))
		for range 2 {
			if _, err := docker.Info(t.Context()); err != nil {
				t.Errorf("Docker %s: %v", test.release, err)
			}
		}
		n := len(daemon.requests)
		if got := daemon.requests[n-1]; got != test.want || daemon.requests[n-2] != test.want {
			t.Errorf("Docker %s: requests %q, want two of %s", test.release, daemon.requests, test.want)
		}
	}
}

// TestReplacedDockerIsQueriedAgain: a client outlives an upgrade of Docker.
func TestReplacedDockerIsQueriedAgain(t *testing.T) {
	daemon := &fakeDaemon{minimum: "1.12", maximum: "1.41"}
	docker := New(daemon.start(t))
	if _, err := docker.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	daemon.minimum, daemon.maximum = "1.44", "1.52"
	daemon.answer = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1.41/") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"message": "client version 1.41 is too old. Minimum supported API version is 1.44"}`)
			return
		}
		_, _ = io.WriteString(w, `{"ServerVersion":"29"}`)
	}
	if _, err := docker.Info(t.Context()); err == nil {
		t.Error("a version that Docker does not serve was used")
	}
	if info, err := docker.Info(t.Context()); err != nil || info.ServerVersion != "29" {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestDockerWithoutACommonAPIVersionIsAnError(t *testing.T) {
	for maximum, want := range map[string]string{
		"1.39": "it serves the API up to version 1.39, but 1.40 is needed", "": "is not valid", "1": "is not valid",
		"1.44\t\x1b[31m" + strings.Repeat("x", 5000): "is not valid",
	} {
		_, err := New((&fakeDaemon{maximum: strings.Map(printable, maximum)}).start(t)).Info(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 500 {
			t.Errorf("%.20q: %v", maximum, err)
		}
		if maximum == "1.39" && (!fault.IsPermanent(err) || fault.Hint(err) == "") {
			t.Errorf("%v: %v, %q", err, fault.ClassOf(err), fault.Hint(err))
		}
	}
}

func printable(r rune) rune {
	if unicode.IsControl(r) && r != '\t' {
		return ' '
	}
	return r
}

// TestEveryCallOfDockerHasALimit: a call without a deadline is rejected before it
// is sent, and a daemon that does not answer ends each call.
func TestEveryCallOfDockerHasALimit(t *testing.T) {
	release := make(chan struct{})
	h := (&fakeDaemon{maximum: "1.41", answer: func(http.ResponseWriter, *http.Request) { <-release }}).start(t)
	defer close(release)
	d := New(h)
	//nolint:bodyclose // there is no response
	if _, err := d.send(context.Background(), http.MethodGet, "/info", nil, nil, ""); err == nil || !strings.Contains(err.Error(), "no time limit is set") {
		t.Errorf("without a deadline: %v", err)
	}
	archive := filepath.Join(h.Root(), "archive")
	if err := os.WriteFile(archive, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	const limit = 100 * time.Millisecond
	for name, call := range map[string]func() error{
		"exec": func() error { _, _, err := d.Exec(t.Context(), limit, "c", []string{"true"}); return err },
		"load": func() error { _, err := d.LoadImage(t.Context(), limit, archive, nil); return err },
		"pull": func() error { return d.PullImage(t.Context(), limit, "x", nil) },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "timed out after 100ms") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.loadImage(context.Background(), archive, nil); err == nil || !strings.Contains(err.Error(), "no time limit is set") {
		t.Errorf("load without a deadline: %v", err)
	}
	stop := errors.New("stopped by SIGTERM")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(limit, func() { cancel(stop) })
	if _, err := d.Info(ctx); err == nil || strings.Contains(err.Error(), "timed out") {
		t.Errorf("an interrupted call: %v", err)
	}
}

// TestDockersTextIsShortAndPrintable: what Docker answers reaches the journal.
func TestDockersTextIsShortAndPrintable(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	for name, body := range map[string]struct {
		status int
		text   string
	}{
		"message":        {500, `{"message":"\u001b[31m` + long + `"}`},
		"no JSON":        {502, long},
		"invalid answer": {200, `{"ServerVersion":` + long},
	} {
		h := (&fakeDaemon{maximum: "1.41", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(body.status)
			_, _ = io.WriteString(w, body.text)
		}}).start(t)
		_, err := New(h).Info(t.Context())
		if err == nil || len(err.Error()) > 1200 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	h := (&fakeDaemon{maximum: "1.41", answer: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"ServerVersion":"\u001b[31m`+long+`","State":{"Error":"\u001b[31m`+long+`"}}`)
	}}).start(t)
	info, err := New(h).Info(t.Context())
	if err != nil || len(info.ServerVersion) > 310 || strings.ContainsFunc(info.ServerVersion, unicode.IsControl) {
		t.Errorf("the version has %d bytes, %v", len(info.ServerVersion), err)
	}
	c, err := New(h).Container(t.Context(), "x")
	if err != nil || len(c.State.Error) > 310 || strings.ContainsFunc(c.State.Error, unicode.IsControl) {
		t.Errorf("the container's error has %d bytes, %v", len(c.State.Error), err)
	}
}

func FuzzDockerAPIVersion(f *testing.F) {
	for _, seed := range []string{"1.40", "1.44", "1.", ".1", "-1.4", "1.4.4", "99999.1", "1.52"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, low, high string) {
		maximum, ok := parseAPIVersion(high)
		minimum, _ := parseAPIVersion(low)
		if !ok {
			return
		}
		chosen, err := chooseAPI(minimum, maximum)
		if err == nil && (oldestAPI.newerThan(chosen) || chosen.newerThan(newestAPI) && chosen != minimum) {
			t.Errorf("%s to %s: chose %s", minimum, maximum, chosen)
		}
	})
}

func FuzzDockerStream(f *testing.F) {
	for _, seed := range []string{"", "{}\n{}", `{"error":"x"}`, `{"status":"a","progress":"b"}` + "\r\n", `{"stream":"Loaded image: a:1"}`, "{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := readStream(strings.NewReader(string(data)), func(streamLine) {})
		if err != nil && (len(err.Error()) > 500 || strings.ContainsFunc(err.Error(), unicode.IsControl)) {
			t.Errorf("%q", err)
		}
	})
}

func FuzzDockerError(f *testing.F) {
	f.Add(404, []byte(`{"message":"no such container"}`))
	f.Add(500, []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		resp := &http.Response{StatusCode: status, Status: "x", Body: io.NopCloser(strings.NewReader(string(data)))}
		if text := responseError(resp).Error(); len(text) > 1100 || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("%q", text)
		}
	})
}

// TestMissingNetworkIsQueriedAgainOnlyWithAStore: Docker 20.10 omits networks while
// its cluster-store is slow.
func TestMissingNetworkIsQueriedAgainOnlyWithAStore(t *testing.T) {
	for maximum, want := range map[string]int{"1.41": networkQueries, "1.43": 1} {
		daemon := &fakeDaemon{minimum: "1.12", maximum: maximum}
		queries := 0
		daemon.answer = func(w http.ResponseWriter, _ *http.Request) {
			queries++
			_, _ = io.WriteString(w, "[]")
		}
		if n, err := New(daemon.start(t)).Network(t.Context(), "x"); n != nil || err != nil || queries != want {
			t.Errorf("API %s: %d queries, %v, %v", maximum, queries, n, err)
		}
	}
}

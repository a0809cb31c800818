package host

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serveOn serves a socket below a new root, whose path is short because that of a
// socket has at most 107 bytes.
func serveOn(t *testing.T, path string, handler http.HandlerFunc) *Host {
	t.Helper()
	root, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	socket := filepath.Join(root, path)
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
	return New(root)
}

// TestSocketsDoNotUseAProxy: a proxy cannot reach a socket of this machine.
func TestSocketsDoNotUseAProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	h := serveOn(t, "run/p.sock", func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := h.Socket("/run/p.sock").Do(ctx, http.MethodPost, "/x", nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if unixTransport("/run/p.sock").Proxy != nil {
		t.Error("the transport of a socket has a proxy")
	}
}

// TestSocketNeedsALimit: a request without a deadline is rejected before it is
// sent.
func TestSocketNeedsALimit(t *testing.T) {
	h := serveOn(t, "run/p.sock", func(http.ResponseWriter, *http.Request) { t.Error("received a request") })
	//nolint:bodyclose // there is no response
	_, err := h.Socket("/run/p.sock").Do(context.Background(), http.MethodGet, "/x", nil, nil, "")
	if err == nil || !strings.Contains(err.Error(), "no time limit is set") {
		t.Errorf("got %v", err)
	}
}

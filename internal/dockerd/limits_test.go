package dockerd_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
)

// serveDocker serves Docker's socket below a new root with handler.
func serveDocker(t testing.TB, handler http.HandlerFunc) *host.Host {
	t.Helper()
	return host.New(serveSocket(t, dockerd.Socket, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if r.URL.Path != "/_ping" {
			handler(w, r)
		}
	}))
}

// serveSocket serves a socket below a new root, whose path is short because that
// of a socket is limited to 107 bytes.
func serveSocket(t testing.TB, socket string, handler http.HandlerFunc) (root string) {
	t.Helper()
	root, err := os.MkdirTemp("", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	path := filepath.Join(root, socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler} //nolint:gosec // only in a test
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return root
}

// TestCallsThatHangAreEnded: Docker answers and then sends nothing more.
func TestCallsThatHangAreEnded(t *testing.T) {
	t.Parallel()
	h := serveDocker(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/exec") {
			_, _ = w.Write([]byte(`{"Id": "1"}`))
			return
		}
		_, _ = w.Write([]byte(`{"stream":"Loading"}` + "\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	archive := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(archive, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	const limit = 50 * time.Millisecond
	for what, call := range map[string]func(context.Context) error{
		"cannot run birdcl -s in calico-node: timed out after 50ms": func(ctx context.Context) error {
			_, _, err := dockerd.New(h).Exec(ctx, limit, "calico-node", []string{"birdcl", "-s"})
			return err
		},
		"cannot load the image: timed out after 50ms": func(ctx context.Context) error {
			_, err := dockerd.New(h).LoadImage(ctx, limit, archive, nil)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := call(ctx)
		if err == nil || err.Error() != what || fault.ClassOf(err) != fault.Retryable || fault.KindOf(err) != fault.Timeout {
			t.Errorf("got %v, want %s", err, what)
		}
		cancel()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("after the caller's own end got %v", err)
		}
	}
}

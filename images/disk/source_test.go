package disk

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/internal/web"
)

// failingFile is a file with a read error.
type failingFile struct{ data *bytes.Reader }

func (f failingFile) Read(p []byte) (int, error) {
	if f.data.Len() > 0 {
		return f.data.Read(p)
	}
	return 0, &os.PathError{Op: "read", Path: "/mnt/image", Err: syscall.EIO}
}

func (failingFile) Close() error { return nil }

// TestReadErrorOfAFileEndsTheInstallation: there is no server to connect to again.
func TestReadErrorOfAFileEndsTheInstallation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"read error": image(t)[:5000], "at the beginning": nil} {
		s, err := openSource(t.Context(), Options{
			Image:   images.Remote{URL: secret.URL("file://" + path)},
			Waiting: func(err error) { t.Errorf("%s: it waits: %v", name, err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		s.body = failingFile{bytes.NewReader(data)}
		start := time.Now()
		err = s.drain()
		if !errors.Is(err, syscall.EIO) || s.done != int64(len(data)) || strings.Contains(err.Error(), "fetch") {
			t.Errorf("%s: %v after %d bytes", name, err, s.done)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}
}

// A file that became shorter while it was read is an error, too.
func TestTruncatedFileEndsTheInstallation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image(t), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openSource(t.Context(), Options{Image: images.Remote{URL: secret.URL(path)}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if err := s.drain(); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("%v", err)
	}
}

func TestImageThatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir, "/dev/zero"} {
		if _, err := openSource(t.Context(), Options{Image: images.Remote{URL: secret.URL(path)}}); err == nil || !strings.Contains(err.Error(), "cannot read the image") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestImageIsFetchedThroughTheProxy(t *testing.T) {
	data := image(t)
	var requested atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requested.Store(r.URL.Host)
		_, _ = w.Write(data)
	}))
	defer proxy.Close()
	o := options("http://images.example/golden.raw", data, blankDisk(t, diskSize, nil))
	o.Proxy = web.Proxy(proxy.URL, "", "")
	if _, err := write(t, o); err != nil || requested.Load() != "images.example" {
		t.Errorf("%v; the proxy received a request for %v", err, requested.Load())
	}
}

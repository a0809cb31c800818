//go:build lab

package scenarios

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab/labtest"
	"github.com/projecteru2/firstboot/test/lab/parts"
)

// mirror is an HTTP server for artifacts that can serve wrong contents or be slow.
type mirror struct {
	paths map[string]string // file by path of the URL

	mu     sync.Mutex
	wrong  bool // serve wrong contents of the same length
	rate   int  // bytes per second; 0: unlimited
	sent   map[string]int64
	ranges []string // range requests
}

func (m *mirror) set(wrong bool, rate int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong, m.rate = wrong, rate
	m.sent, m.ranges = map[string]int64{}, nil
}

// sentOf returns how many bytes of a file were sent since set.
func (m *mirror) sentOf(path string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent[path]
}

// resumed returns the range requests since set.
func (m *mirror) resumed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ranges
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, err := os.Open(m.paths[r.URL.Path])
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	m.mu.Lock()
	if part := r.Header.Get("Range"); part != "" {
		m.ranges = append(m.ranges, r.URL.Path+" "+part)
	}
	var body io.ReadSeeker = f
	if m.wrong {
		body = invertedFile{f}
	}
	out := &limitedWriter{ResponseWriter: w, m: m, path: r.URL.Path, rate: m.rate}
	m.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.ServeContent(out, r, "", info.ModTime(), body)
}

// invertedFile is a file in which every bit is inverted.
type invertedFile struct{ *os.File }

func (f invertedFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

// limitedWriter counts the bytes that are sent and limits their rate.
type limitedWriter struct {
	http.ResponseWriter
	m    *mirror
	path string
	rate int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.m.mu.Lock()
	w.m.sent[w.path] += int64(n)
	w.m.mu.Unlock()
	if w.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(w.rate))
	}
	return n, err
}

// digests returns the digest of a file, and of its wrong contents.
func digests(t *testing.T, path string) (right, wrong string) {
	t.Helper()
	digest := func(wrap func(*os.File) io.Reader) string {
		f, err := os.Open(path)
		labtest.NoError(t, err)
		defer f.Close()
		h := sha256.New()
		_, err = io.Copy(h, wrap(f))
		labtest.NoError(t, err)
		return hex.EncodeToString(h.Sum(nil))
	}
	return digest(func(f *os.File) io.Reader { return f }),
		digest(func(f *os.File) io.Reader { return struct{ io.Reader }{invertedFile{f}} })
}

const mirrorPort = 8080

// newMirror returns a mirror of the lab's parts.
func newMirror(p parts.Parts) *mirror {
	return &mirror{paths: map[string]string{"/calicoctl": p.Calicoctl, "/eru-minions.rpm": p.MinionsRPM}, sent: map[string]int64{}}
}

func mirrorURL(path string) string { return fmt.Sprintf("http://10.123.0.1:%d%s", mirrorPort, path) }

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

// mirror serves artifacts to the machines, and can be wrong or slow.
type mirror struct {
	paths map[string]string // of files, by path of the URL

	mu     sync.Mutex
	wrong  bool // every file has other contents of the same length
	rate   int  // bytes a second; 0: as fast as it goes
	sent   map[string]int64
	ranges []string // what was asked for in part
}

func (m *mirror) set(wrong bool, rate int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong, m.rate = wrong, rate
	m.sent, m.ranges = map[string]int64{}, nil
}

// sentOf is how many bytes of a file went out since set.
func (m *mirror) sentOf(path string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent[path]
}

// resumed lists the requests for the rest of a file.
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
		body = flipped{f}
	}
	out := &metered{ResponseWriter: w, m: m, path: r.URL.Path, rate: m.rate}
	m.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.ServeContent(out, r, "", info.ModTime(), body)
}

// flipped is a file with every byte changed.
type flipped struct{ *os.File }

func (f flipped) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

// metered counts what goes out, and keeps to a rate.
type metered struct {
	http.ResponseWriter
	m    *mirror
	path string
	rate int
}

func (w *metered) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.m.mu.Lock()
	w.m.sent[w.path] += int64(n)
	w.m.mu.Unlock()
	if w.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(w.rate))
	}
	return n, err
}

// sums are the digests of a file as it is, and as the wrong mirror has it.
func sums(t *testing.T, path string) (right, wrong string) {
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
		digest(func(f *os.File) io.Reader { return struct{ io.Reader }{flipped{f}} })
}

const mirrorPort = 8080

// mirrorOf is a mirror of the lab's parts.
func mirrorOf(p parts.Parts) *mirror {
	return &mirror{paths: map[string]string{"/calicoctl": p.Calicoctl, "/eru-minions.rpm": p.MinionsRPM}, sent: map[string]int64{}}
}

func mirrorURL(path string) string { return fmt.Sprintf("http://10.123.0.1:%d%s", mirrorPort, path) }

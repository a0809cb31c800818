package disk

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/secret"
)

const diskSize = 8 << 20

// image returns a raw disk image of slightly more than 3 MiB.
func image(t *testing.T) []byte {
	t.Helper()
	data := make([]byte, 3<<20+4096)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // test data
	for i := range data {
		if i>>16&7 == 1 { // mostly zeros, so that xz is fast
			data[i] = byte(r.Uint32() >> 24)
		}
	}
	data[len(data)-1] = 1
	data[510], data[511] = 0x55, 0xaa
	return data
}

// compressed holds what compress has returned, by format and digest.
var compressed sync.Map

// compress returns data in one of the formats.
func compress(t *testing.T, format string, data []byte) []byte {
	t.Helper()
	key := fmt.Sprintf("%s %x", format, sha256.Sum256(data))
	if known, ok := compressed.Load(key); ok {
		return bytes.Clone(known.([]byte)) //nolint:forcetypeassert // the next function stores it
	}
	packed := compressNow(t, format, data)
	compressed.Store(key, packed)
	return bytes.Clone(packed)
}

func compressNow(t *testing.T, format string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch format {
	case "raw":
		return data
	case "gzip":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// inMemory returns a directory in memory, where a sync takes no time, if there is one.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "firstboot")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// blankDisk returns the path of a file of zeros that begins with head.
func blankDisk(t *testing.T, size int64, head []byte) string {
	t.Helper()
	path := filepath.Join(inMemory(t), "disk")
	if err := os.WriteFile(path, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(url string, served []byte, disk string) Options {
	return Options{Image: images.Remote{URL: secret.URL(url), SHA256: fmt.Sprintf("%x", sha256.Sum256(served))}, Disk: disk}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/golden.raw?token=hidden"
}

func write(t *testing.T, o Options) (Result, error) {
	t.Helper()
	w, err := Write(t.Context(), host.New("/"), o)
	if err != nil && strings.Contains(err.Error()+engine.Hint(err), "hidden") {
		t.Errorf("an error contains a secret: %v", err)
	}
	return w, err
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// isUnfinished reports whether the head of a disk is that of an interrupted installation.
func isUnfinished(disk []byte) bool {
	rest, marked := bytes.CutPrefix(disk[:headSize], []byte(unfinished))
	return marked && isBlank(rest)
}

func isBlank(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

func TestEveryFormatIsWritten(t *testing.T) {
	raw := image(t)
	for _, format := range []string{"raw", "gzip", "xz", "zstd"} {
		served := compress(t, format, raw)
		disk := blankDisk(t, diskSize, nil)
		o := options(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(served) }), served, disk)
		var steps []string
		o.Progress = func(step string, done, total int64) {
			steps = append(steps, step)
			if total > 0 && done > total {
				t.Errorf("%s: %d of %d", step, done, total)
			}
		}
		written, err := write(t, o)
		if err != nil || written.Bytes != int64(len(raw)) || written.SHA256 != o.Image.SHA256 {
			t.Fatalf("%s: %+v, %v", format, written, err)
		}
		got := content(t, disk)
		if !bytes.Equal(got[:len(raw)], raw) || !isBlank(got[len(raw):]) || len(got) != diskSize {
			t.Errorf("%s: the disk differs from the image", format)
		}
		if all := strings.Join(steps, " "); !strings.Contains(all, "writing") || !strings.Contains(all, "reading back") {
			t.Errorf("%s: progress steps %s", format, all)
		}
	}
}

func TestImageIsReadFromAFile(t *testing.T) {
	raw := image(t)
	path := filepath.Join(t.TempDir(), "golden.raw")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{path, "file://" + path} {
		disk := blankDisk(t, diskSize, nil)
		if _, err := write(t, options(url, raw, disk)); err != nil || !bytes.HasPrefix(content(t, disk), raw) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestImageOnTheDiskItselfIsRefused(t *testing.T) {
	raw := image(t)
	disk := blankDisk(t, diskSize, raw)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(disk, link); err != nil {
		t.Fatal(err)
	}
	before := content(t, disk)
	for _, name := range []string{disk, link} {
		o := options(name, raw, disk)
		o.Wipe = true
		_, err := write(t, o)
		var refusal *engine.Refusal
		if !errors.As(err, &refusal) || refusal.Findings[0].Name != "image-on-disk" {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(before, content(t, disk)) {
			t.Fatalf("%s: the disk was changed", name)
		}
	}
}

func TestDiskWithDataIsRefusedWithoutWipe(t *testing.T) {
	raw := image(t)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) })
	for name, disk := range map[string]string{
		"boot sector": blankDisk(t, diskSize, []byte("my data")),
		"data at its end": func() string {
			path := blankDisk(t, diskSize, nil)
			data := content(t, path)
			data[diskSize-1] = 1
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}(),
	} {
		before := content(t, disk)
		_, err := write(t, options(url, raw, disk))
		var refusal *engine.Refusal
		if !errors.As(err, &refusal) || refusal.Findings[0].Name != "disk-holds-data" || !strings.Contains(engine.Hint(err), "--wipe") {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(before, content(t, disk)) {
			t.Errorf("%s: the disk was changed", name)
		}
		o := options(url, raw, disk)
		o.Wipe = true
		if _, err := write(t, o); err != nil || !isBlank(content(t, disk)[len(raw):]) {
			t.Errorf("%s: with --wipe: %v", name, err)
		}
	}
}

// The disk has no boot sector before the end, however the installation fails. The
// next installation does not need --wipe.
func TestFailedInstallationDoesNotBootAndCanBeRepeated(t *testing.T) {
	raw := image(t)
	whole := compress(t, "gzip", raw)
	for name, c := range map[string]struct {
		served []byte
		pinned []byte // the data whose digest is expected
		want   string
	}{
		"wrong image":                {whole, []byte("x"), "its sha256 is"},
		"truncated, with its digest": {whole[:len(whole)/2], whole[:len(whole)/2], "cannot unpack"},
		"damaged":                    {append(bytes.Clone(whole[:len(whole)/2]), make([]byte, len(whole)/2)...), whole, ""},
	} {
		disk := blankDisk(t, diskSize, []byte("old boot sector"))
		o := options(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.served) }), c.pinned, disk)
		o.Wipe = true
		if _, err := write(t, o); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(engine.Hint(err), "does not boot now") {
			t.Fatalf("%s: %v (%s)", name, err, engine.Hint(err))
		}
		if !isUnfinished(content(t, disk)) {
			t.Errorf("%s: the disk boots", name)
		}
		o = options(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(whole) }), whole, disk)
		if _, err := write(t, o); err != nil || !bytes.HasPrefix(content(t, disk), raw) {
			t.Errorf("%s: second installation: %v", name, err)
		}
	}
}

func TestDiskIsUnchangedIfTheImageIsInvalid(t *testing.T) {
	missing := serve(t, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	for name, c := range map[string]struct {
		served []byte
		want   string
	}{
		"page":  {[]byte("<html>not found</html>"), "it is not a disk image"},
		"text":  {bytes.Repeat([]byte("text "), 1<<20), "it is not a disk image"},
		"qcow2": {append([]byte("QFI\xfb"), image(t)...), "a qcow2 image"},
		"404":   {nil, "the server answered 404"},
	} {
		disk := blankDisk(t, diskSize, []byte("my data"))
		url := missing
		if c.served != nil {
			url = serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.served) })
		}
		o := options(url, c.served, disk)
		o.Wipe = true
		if _, err := write(t, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.HasPrefix(content(t, disk), []byte("my data")) {
			t.Errorf("%s: the disk was changed", name)
		}
	}
}

func TestDiskThatIsTooSmallIsRefused(t *testing.T) {
	raw := image(t)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(compress(t, "zstd", raw)) })
	disk := blankDisk(t, 2<<20, nil)
	if _, err := write(t, options(url, raw, disk)); err == nil || !strings.Contains(err.Error(), "it has 2097152 bytes, but the image is larger") {
		t.Error(err)
	}
	if !isUnfinished(content(t, disk)) || len(content(t, disk)) != 2<<20 {
		t.Error("the disk boots, or its size has changed")
	}
}

// The rest of the file is requested with a Range header. Parts of different files are
// never joined.
func TestDownloadResumesAfterALostConnection(t *testing.T) {
	raw := image(t)
	for name, c := range map[string]struct {
		etag func(n int64) string
		want string
	}{
		"same file":    {func(int64) string { return `"one"` }, ""},
		"changed file": {func(n int64) string { return fmt.Sprintf(`"%d"`, n) }, "cannot resume the transfer"},
	} {
		var requests atomic.Int64
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			n, from := requests.Add(1), 0
			w.Header().Set("ETag", c.etag(n))
			if span, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
				from, _ = strconv.Atoi(strings.TrimSuffix(span, "-"))
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(raw)-1, len(raw)))
				w.Header().Set("Content-Length", strconv.Itoa(len(raw)-from))
				w.WriteHeader(http.StatusPartialContent)
			} else {
				w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
			}
			// 1.5 MiB per connection.
			_, _ = w.Write(raw[from:min(len(raw), from+3<<19)])
		})
		disk := blankDisk(t, diskSize, nil)
		o := options(url, raw, disk)
		var waits []string
		o.Waiting = func(err error) { waits = append(waits, err.Error()) }
		_, err := write(t, o)
		if c.want == "" && (err != nil || requests.Load() != 3 || !bytes.HasPrefix(content(t, disk), raw)) {
			t.Errorf("%s: %d requests, %v", name, requests.Load(), err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !isUnfinished(content(t, disk))) {
			t.Errorf("%s: %v", name, err)
		}
		if len(waits) == 0 || !strings.Contains(waits[0], "the connection was lost after 1572864 of ") {
			t.Errorf("%s: %v", name, waits)
		}
	}
}

func TestInterruptedInstallationDoesNotBoot(t *testing.T) {
	raw := image(t)
	disk := blankDisk(t, diskSize, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	o := options(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) }), raw, disk)
	o.Progress = func(step string, _, _ int64) {
		if step == "reading back" {
			cancel(errors.New("interrupted by the test"))
		}
	}
	if _, err := Write(ctx, host.New("/"), o); err == nil || !strings.Contains(err.Error(), "interrupted by the test") || !isUnfinished(content(t, disk)) {
		t.Error(err)
	}
}

func TestTargetMustBeADisk(t *testing.T) {
	raw := image(t)
	for disk, want := range map[string]string{
		"/dev/null":                       "it is not a disk",
		t.TempDir():                       "it is not a disk",
		filepath.Join(t.TempDir(), "x"):   "no such file",
		blankDisk(t, headSize, []byte{1}): "it has 1048576 bytes",
	} {
		if _, err := write(t, options("/nothing", raw, disk)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", disk, err, want)
		}
	}
}

// The size of a raw image and of a zstd frame is known beforehand.
func TestDiskSmallerThanTheImageIsUnchanged(t *testing.T) {
	raw := image(t)
	file := filepath.Join(t.TempDir(), "golden.raw")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	stated := zstdWithSize(t, raw)
	for name, c := range map[string]struct {
		url    string
		served []byte
	}{
		"raw, by HTTP": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
			_, _ = w.Write(raw)
		}), raw},
		"raw, a file": {"file://" + file, raw},
		"zstd":        {serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(stated) }), stated},
	} {
		disk := blankDisk(t, 2<<20, []byte("my data"))
		before := content(t, disk)
		o := options(c.url, c.served, disk)
		o.Wipe = true
		_, err := write(t, o)
		var refusal *engine.Refusal
		if !errors.As(err, &refusal) || refusal.Findings[0].Name != "disk-too-small" || !strings.Contains(err.Error(), "2097152 bytes") {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(before, content(t, disk)) {
			t.Errorf("%s: the disk was changed", name)
		}
	}
}

// zstdWithSize compresses data like the program zstd, which states the size.
func zstdWithSize(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func TestPersonMayConsentToOverwriteADisk(t *testing.T) {
	raw := image(t)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) })
	for _, consent := range []bool{false, true} {
		disk := blankDisk(t, diskSize, []byte("my data"))
		o := options(url, raw, disk)
		prompts := 0
		o.Confirm = func(contents string, _ bool) bool {
			prompts++
			if contents == "" {
				t.Error("the prompt does not name what the disk holds")
			}
			return consent
		}
		_, err := write(t, o)
		if (err == nil) != consent || prompts != 1 || bytes.HasPrefix(content(t, disk), []byte("my data")) == consent {
			t.Errorf("consent %v: %d prompts, %v", consent, prompts, err)
		}
		if _, err := write(t, func() Options { o.Disk = blankDisk(t, diskSize, nil); return o }()); err != nil || prompts != 1 {
			t.Errorf("an empty disk: %d prompts, %v", prompts, err)
		}
	}
}

// mounts is an executor whose mount puts a firstboot into the directory.
type mounts struct {
	t       *testing.T
	umounts []error // the state of the context of each umount
}

func (m *mounts) Run(ctx context.Context, c host.Command) (host.Output, error) {
	switch c.Name {
	case "mount":
		dir := filepath.Join(c.Args[len(c.Args)-1], "usr/bin")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "firstboot"), nil, 0o600)); err != nil {
			m.t.Fatal(err)
		}
	case "umount":
		m.umounts = append(m.umounts, ctx.Err())
		if err := os.RemoveAll(c.Args[len(c.Args)-1] + "/usr"); err != nil {
			m.t.Fatal(err)
		}
	}
	return host.Output{}, nil
}

// A signal that arrives while the new system is configured must not leave the disk
// mounted.
func TestDiskIsUnmountedAfterASignal(t *testing.T) {
	for name, work := range map[string]error{"work stopped": context.Canceled, "work done": nil} {
		m := &mounts{t: t}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := withRoot(ctx, host.New("/", host.WithExecutor(m)), blankDisk(t, diskSize, nil), "rw", func(*host.Host) error { cancel(); return work })
		if !errors.Is(err, work) {
			t.Errorf("%s: %v", name, err)
		}
		if len(m.umounts) != 1 || m.umounts[0] != nil {
			t.Errorf("%s: umount was started with contexts %v, want one that is not done", name, m.umounts)
		}
	}
}

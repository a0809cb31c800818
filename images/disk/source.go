package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/web"
)

// reconnectTimeout limits the time of reconnecting without receiving data.
const reconnectTimeout = 10 * time.Minute

// source reads an image from a server or a file, resumes after a lost connection, and
// computes the digest of the data received.
type source struct {
	ctx     context.Context
	url     string
	shown   fmt.Stringer
	body    io.ReadCloser
	version string // ETag and date of the first response: parts of different files are never joined
	digest  hash.Hash
	done    int64
	total   int64 // 0 if unknown
	waiting func(error)
	err     error // that ended the transfer, except io.EOF
	client  *web.Client
	local   bool // a file: there is nothing to reconnect to
}

func openSource(ctx context.Context, o Options) (*source, error) {
	s := &source{
		ctx: ctx, url: o.Image.URL.Reveal(), shown: o.Image.URL, digest: sha256.New(), waiting: o.Waiting,
		client: web.NewClient(web.Options{Proxy: o.Proxy}),
	}
	if s.waiting == nil {
		s.waiting = func(error) {}
	}
	path, local := localPath(s.url)
	if !local {
		return s, s.connect()
	}
	f, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the image %s: %w", s.shown, withoutPath(err))
	}
	s.body, s.local = f, true
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		s.total = info.Size()
	}
	return s, nil
}

// openFile opens an image: a regular file or a block device. Opening anything
// else, such as a FIFO, could wait forever.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	block := os.ModeDevice
	if err == nil && !info.Mode().IsRegular() && info.Mode().Type() != block {
		err = errors.New("neither a regular file nor a block device")
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// isOn reports whether the image is the disk itself, or a partition of it.
func (s *source) isOn(t *target) bool {
	f, ok := s.body.(*os.File)
	if !ok {
		return false
	}
	image, err := f.Stat()
	if err != nil {
		return false
	}
	disk, err := t.file.Stat()
	if err != nil {
		return false
	}
	if os.SameFile(image, disk) {
		return true
	}
	from, to := blockDevice(image), blockDevice(disk)
	return from != "" && to != "" && (from == to || strings.HasPrefix(from, to+"/"))
}

// blockDevice returns the directory of a block device in sysfs, which is below
// that of its disk if it is a partition. It returns "" for other files.
func blockDevice(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Type() != os.ModeDevice {
		return ""
	}
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return ""
	}
	return dir
}

// Close ends the transfer.
func (s *source) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}

// sha256 returns the digest of the data received so far.
func (s *source) sha256() string { return hex.EncodeToString(s.digest.Sum(nil)) }

// drain reads the data that a decompressor left unread after the image's end.
func (s *source) drain() error {
	_, err := io.Copy(io.Discard, s)
	return err
}

// Read reads from the source, and reconnects if the connection is lost.
func (s *source) Read(p []byte) (int, error) {
	for {
		n, err := s.body.Read(p)
		s.digest.Write(p[:n])
		s.done += int64(n)
		complete := s.total == 0 || s.done >= s.total
		switch {
		case n > 0:
			return n, nil // the next read returns the error
		case errors.Is(err, io.EOF) && complete:
			return 0, io.EOF
		case err == nil:
			continue
		case s.ctx.Err() != nil:
			s.err = context.Cause(s.ctx)
			return 0, s.err
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
		if s.local {
			s.err = fmt.Errorf("cannot read the image %s: %w", s.shown, withoutPath(err))
			return 0, s.err
		}
		s.waiting(fmt.Errorf("the connection was lost after %d of %d bytes: %w", s.done, s.total, err))
		if err := s.connect(); err != nil {
			s.err = err
			return 0, err
		}
	}
}

// connect requests the missing data until the server responds.
func (s *source) connect() error {
	if s.body != nil {
		_ = s.body.Close() // the connection is lost
	}
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval, pause.RandomizationFactor = 10*time.Second, 1
	body, err := backoff.Retry(s.ctx, s.request, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(reconnectTimeout),
		backoff.WithNotify(func(err error, _ time.Duration) { s.waiting(err) }))
	if err != nil {
		return fmt.Errorf("cannot fetch the image %s: %w", s.shown, err)
	}
	s.body = body
	return nil
}

// request sends one request. Errors that a retry cannot correct are permanent.
func (s *source) request() (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, backoff.Permanent(web.ErrURL)
	}
	if s.done > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", s.done))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, web.Backoff(err)
	}
	if err := s.accept(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// accept checks that a response contains the data requested.
func (s *source) accept(resp *http.Response) error {
	version := resp.Header.Get("ETag") + " " + resp.Header.Get("Last-Modified")
	code := resp.StatusCode
	switch {
	case s.done == 0 && code == http.StatusOK:
		s.total, s.version = max(0, resp.ContentLength), version
		return nil
	case s.done > 0 && code == http.StatusPartialContent && version == s.version &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", s.done)):
		return nil
	case s.done > 0 && code/100 == 2:
		return backoff.Permanent(errors.New("the connection was lost, and the server cannot resume the transfer (no range requests, or the file has changed)"))
	}
	return web.Backoff(web.NewStatusError(resp))
}

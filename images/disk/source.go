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
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/artifact"
)

const (
	// stall is how long a server may send nothing.
	stall = 30 * time.Second
	// patience is how long in all a broken source is asked again without one
	// more byte.
	patience = 10 * time.Minute
)

// source reads an image from a server or a file, goes on after the connection
// broke, and keeps the sum of what came.
type source struct {
	ctx     context.Context
	url     string
	shown   fmt.Stringer
	body    io.ReadCloser
	version string // strong ETag or date of what came first, so that parts of two images are never joined
	digest  hash.Hash
	done    int64
	total   int64 // 0: unknown
	waiting func(error)
	err     error // that ended it, other than io.EOF
	client  *http.Client
}

func openSource(ctx context.Context, o Options) (*source, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression, t.ResponseHeaderTimeout = true, stall
	s := &source{ctx: ctx, url: o.Image.URL.Reveal(), shown: o.Image.URL, digest: sha256.New(), waiting: o.Waiting, client: &http.Client{Transport: t}}
	if s.waiting == nil {
		s.waiting = func(error) {}
	}
	path, isFile := strings.CutPrefix(s.url, "file://")
	if !isFile && !strings.HasPrefix(s.url, "/") {
		return s, s.connect()
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the image %s: %w", s.shown, plain(err))
	}
	if info, err := f.Stat(); err == nil {
		s.total = info.Size()
	}
	s.body = f
	return s, nil
}

// Close ends the transfer.
func (s *source) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}

func (s *source) sum() string { return hex.EncodeToString(s.digest.Sum(nil)) }

// drain reads what a decompressor left behind the image's end.
func (s *source) drain() error {
	_, err := io.Copy(io.Discard, s)
	return err
}

func (s *source) Read(p []byte) (int, error) {
	for {
		n, err := s.body.Read(p)
		s.digest.Write(p[:n])
		s.done += int64(n)
		whole := s.total == 0 || s.done >= s.total
		switch {
		case n > 0:
			return n, nil // what ended it comes again with the next read
		case errors.Is(err, io.EOF) && whole:
			return 0, io.EOF
		case err == nil:
			continue
		case s.ctx.Err() != nil:
			s.err = context.Cause(s.ctx)
			return 0, s.err
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
		s.waiting(fmt.Errorf("it broke off at %d of %d bytes: %w", s.done, s.total, bare(err)))
		if err := s.connect(); err != nil {
			s.err = err
			return 0, err
		}
	}
}

// connect asks for what is missing, until there is an answer.
func (s *source) connect() error {
	if s.body != nil {
		_ = s.body.Close() // it is broken
	}
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval, pause.RandomizationFactor = 10*time.Second, 1
	body, err := backoff.Retry(s.ctx, s.ask, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(patience),
		backoff.WithNotify(func(err error, _ time.Duration) { s.waiting(err) }))
	if err != nil {
		return fmt.Errorf("cannot fetch the image %s: %w", s.shown, err)
	}
	s.body = &impatient{ReadCloser: body, limit: stall}
	return nil
}

// ask sends one request. What time cannot change is permanent.
func (s *source) ask() (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, backoff.Permanent(errors.New("the url cannot be understood"))
	}
	if s.done > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", s.done))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, bare(err)
	}
	if err := s.accept(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

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
		return backoff.Permanent(errors.New("it broke off, and the server cannot go on from there (no ranges, or another file by now)"))
	}
	err := fmt.Errorf("the server answered %d %s", code, http.StatusText(code))
	if code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests {
		return artifact.WithRetryAfter(err, resp)
	}
	return backoff.Permanent(err)
}

// impatient ends a body that gives nothing for long.
type impatient struct {
	io.ReadCloser
	limit time.Duration
}

func (r *impatient) Read(p []byte) (int, error) {
	var late atomic.Bool
	timer := time.AfterFunc(r.limit, func() { late.Store(true); _ = r.Close() })
	defer timer.Stop()
	n, err := r.ReadCloser.Read(p)
	if late.Load() {
		err = fmt.Errorf("the server sent nothing for %s", r.limit)
	}
	return n, err
}

// bare takes the URL out of an error of net/http: it may hold a password.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

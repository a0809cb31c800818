package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// download asks the server for what is missing of the partial file and appends
// it. A server that knows no ranges, or has another version by now, sends the
// whole file, which then replaces the partial one.
func (s *Store) download(ctx context.Context, ref Ref, from *url.URL, p *part, tell *teller) (cutShort bool, err error) {
	ctx, watch := watchStall(ctx, s.stall)
	defer watch.stop()
	resp, err := s.ask(ctx, from, p)
	if err != nil {
		return false, s.netError(ctx, ref, err)
	}
	defer resp.Body.Close()
	total, err := s.begin(ref, resp, p)
	if err != nil {
		return false, err
	}
	if err := s.roomFor(ref, p, total); err != nil {
		return false, err
	}
	err = s.pour(ref, p, watch.reader(resp.Body), total, tell)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = &broken{at: p.size, total: total, err: cause}
	}
	return resp.ContentLength < 0 && !framed(resp), err
}

// framed tells whether the end of a body without a length is known: over
// HTTP/1 without chunks it is simply where the connection ended.
func framed(resp *http.Response) bool {
	return resp.ProtoMajor >= 2 || len(resp.TransferEncoding) > 0
}

// ask sends the request; with a partial file for the rest of it.
func (s *Store) ask(ctx context.Context, from *url.URL, p *part) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return nil, errors.New("the url cannot be understood")
	}
	req.Header.Set("User-Agent", "firstboot")
	// The digest is of the file, not of what a server makes of it.
	req.Header.Set("Accept-Encoding", "identity")
	if p.size > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.size))
		if v := p.version(); v.ETag != "" {
			req.Header.Set("If-Range", v.ETag)
		} else if v.LastModified != "" {
			req.Header.Set("If-Range", v.LastModified)
		}
	}
	resp, err := s.client.Do(req)
	if err != nil || resp.StatusCode != http.StatusRequestedRangeNotSatisfiable || p.size == 0 {
		return resp, err
	}
	// The partial file is longer than the server's: it is of another one.
	resp.Body.Close()
	if err := p.restart(); err != nil {
		return nil, err
	}
	return s.ask(ctx, from, p)
}

// begin makes the partial file ready for the body and tells the whole file's
// size, 0 if that is not known.
func (s *Store) begin(ref Ref, resp *http.Response, p *part) (total int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		if err := p.restart(); err != nil {
			return 0, err
		}
		if err := p.setVersion(versionOf(resp)); err != nil {
			return 0, err
		}
		return max(resp.ContentLength, 0), nil
	case http.StatusPartialContent:
		start, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if ok && start == p.size {
			p.joined = true
			return total, nil
		}
		if err := p.restart(); err != nil {
			return 0, err
		}
		return 0, ref.fail(errors.New("the server sent another part than the one asked for"), false, "")
	}
	return 0, statusError(ref, resp)
}

// contentRange reads "bytes 5-9/10". total is 0 for "*".
func contentRange(header string) (start, total int64, ok bool) {
	span, size, ok := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || !ok2 || err != nil || err2 != nil || start < 0 || end < start {
		return 0, 0, false
	}
	if size == "*" {
		return start, 0, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return start, total, err == nil && total == end+1
}

// versionOf is what a later request can ask by. A weak ETag cannot: it does
// not promise the same bytes.
func versionOf(resp *http.Response) version {
	const longest = 1 << 10
	v := version{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}
	if strings.HasPrefix(v.ETag, "W/") || len(v.ETag) > longest {
		v.ETag = ""
	}
	if len(v.LastModified) > longest {
		v.LastModified = ""
	}
	return v
}

// errStalled ends a fetch whose server sends nothing any more.
type errStalled time.Duration

func (e errStalled) Error() string {
	return fmt.Sprintf("the server sent nothing for %v", time.Duration(e))
}

// stallWatch cancels a request when nothing comes for a while, be it the
// connection, the answer or the body.
type stallWatch struct {
	timer  *time.Timer
	after  time.Duration
	cancel context.CancelCauseFunc
}

func watchStall(ctx context.Context, after time.Duration) (context.Context, *stallWatch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &stallWatch{after: after, cancel: cancel}
	w.timer = time.AfterFunc(after, func() { cancel(errStalled(after)) })
	return ctx, w
}

func (w *stallWatch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// reader puts the end off with every read that brings something.
func (w *stallWatch) reader(r io.Reader) io.Reader {
	w.timer.Reset(w.after)
	return readFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if n > 0 {
			w.timer.Reset(w.after)
		}
		return n, err
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

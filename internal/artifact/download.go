package artifact

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/projecteru2/firstboot/internal/web"
)

// download requests the missing bytes of the partial file and appends them. A
// server that does not support ranges, or has a newer version of the file,
// sends the whole file, which then replaces the partial content. maybeTruncated
// reports whether the end of the body is unknown.
func (s *Store) download(ctx context.Context, ref Ref, from *url.URL, p *partialFile, progress *progressReporter) (maybeTruncated bool, err error) {
	resp, err := s.request(ctx, from, p)
	if err != nil {
		return false, s.requestError(ctx, ref, err)
	}
	defer resp.Body.Close()
	total, err := s.prepare(ref, resp, p)
	if err != nil {
		return false, err
	}
	if err := s.checkSize(ref, p, total); err != nil {
		return false, err
	}
	err = s.appendFrom(ref, p, resp.Body, total, progress)
	return resp.ContentLength < 0 && !marksEnd(resp), err
}

// marksEnd reports whether the protocol marks the end of a body without a
// length. HTTP/1 without chunks does not: the body ends with the connection.
func marksEnd(resp *http.Response) bool {
	return resp.ProtoMajor >= 2 || len(resp.TransferEncoding) > 0
}

// request requests the file, or the rest of it if the partial file has content.
func (s *Store) request(ctx context.Context, from *url.URL, p *partialFile) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return nil, web.ErrURL
	}
	req.Header.Set("User-Agent", "firstboot")
	// The digest is of the file, not of a compressed transfer.
	req.Header.Set("Accept-Encoding", "identity")
	if p.size > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.size))
		if v := p.validators(); v.ETag != "" {
			req.Header.Set("If-Range", v.ETag)
		} else if v.LastModified != "" {
			req.Header.Set("If-Range", v.LastModified)
		}
	}
	resp, err := s.client.Do(req)
	if err != nil || resp.StatusCode != http.StatusRequestedRangeNotSatisfiable || p.size == 0 {
		return resp, err
	}
	// The partial file is at least as long as the server's file, so it belongs
	// to another version.
	resp.Body.Close()
	if err := p.reset(); err != nil {
		return nil, err
	}
	return s.request(ctx, from, p)
}

// prepare makes the partial file ready for the body of resp. It returns the
// whole file's size, or 0 if that is unknown.
func (s *Store) prepare(ref Ref, resp *http.Response, p *partialFile) (total int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		if err := p.reset(); err != nil {
			return 0, err
		}
		if err := p.setValidators(validatorsOf(resp)); err != nil {
			return 0, err
		}
		return max(resp.ContentLength, 0), nil
	case http.StatusPartialContent:
		start, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if ok && start == p.size {
			p.resumed = true
			return total, nil
		}
		if err := p.reset(); err != nil {
			return 0, err
		}
		return 0, ref.transientError(errors.New("the server sent a range that was not requested"))
	}
	return 0, statusError(ref, resp)
}

// contentRange parses a Content-Range header such as "bytes 5-9/10". For "*",
// total is 0.
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

// validatorsOf returns a response's validators. It omits a weak ETag, which
// does not guarantee the same bytes.
func validatorsOf(resp *http.Response) validators {
	const maxLength = 1 << 10
	v := validators{ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}
	if strings.HasPrefix(v.ETag, "W/") || len(v.ETag) > maxLength {
		v.ETag = ""
	}
	if len(v.LastModified) > maxLength {
		v.LastModified = ""
	}
	return v
}

// Package web is the one policy for HTTP requests to servers: limits for time,
// size and redirects, the proxy, and what a server may learn and make firstboot
// print. It does not know what is requested.
//
// A request never sends a Referer, which could contain a token of another URL,
// and never follows a redirect from https to http. What a server sends reaches
// errors as one short line without control characters.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
)

const (
	// defaultStall is how long a server may send nothing.
	defaultStall = 30 * time.Second
	// defaultRedirects bounds the redirects of one request, as browsers do.
	defaultRedirects = 10
	// maxHeader bounds the status line and the headers of a response, in bytes.
	maxHeader = 64 << 10
)

// Options configure a Client.
type Options struct {
	// Proxy chooses the proxy of a request; nil: Proxy("", "", ""), that is, the
	// environment's.
	Proxy func(*http.Request) (*url.URL, error)
	// Timeout bounds a request with its body; 0: only Stall does.
	Timeout time.Duration
	// Stall is how long a server may send nothing; 0: 30 s.
	Stall time.Duration
	// Redirects bounds the redirects of a request; 0: 10.
	Redirects int
	// Transport replaces the network in tests. Proxy is then not used.
	Transport http.RoundTripper
}

// Client sends requests. It is safe for concurrent use.
type Client struct {
	http           *http.Client
	timeout, stall time.Duration
}

// NewClient returns a Client.
func NewClient(o Options) *Client {
	c := &Client{timeout: o.Timeout, stall: o.Stall}
	if c.stall <= 0 {
		c.stall = defaultStall
	}
	if o.Redirects <= 0 {
		o.Redirects = defaultRedirects
	}
	if o.Transport == nil {
		o.Transport = newTransport(o.Proxy)
	}
	c.http = &http.Client{Transport: o.Transport, CheckRedirect: redirectPolicy(o.Redirects)}
	return c
}

func newTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	if proxy == nil {
		proxy = Proxy("", "", "")
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = proxy
	t.MaxResponseHeaderBytes = maxHeader
	// Digests and size limits apply to the bytes that are sent.
	t.DisableCompression = true
	// Requests are minutes apart, if there is more than one at all.
	t.DisableKeepAlives = true
	return t
}

// redirectPolicy returns the policy for at most limit redirects.
func redirectPolicy(limit int) func(*http.Request, []*http.Request) error {
	return func(next *http.Request, before []*http.Request) error {
		last := before[len(before)-1]
		switch {
		case len(before) > limit:
			return &RedirectError{fmt.Sprintf("redirected more than %d times", limit)}
		case last.URL.Scheme == "https" && next.URL.Scheme != "https":
			return &RedirectError{"the server redirects from https to http"}
		case next.URL.Scheme != "http" && next.URL.Scheme != "https":
			return &RedirectError{"the server redirects to a url that is neither http nor https"}
		case next.Method != last.Method:
			return &RedirectError{fmt.Sprintf("the redirect turns the %s into a %s", last.Method, next.Method)}
		}
		next.Header.Del("Referer")
		return nil
	}
}

// Do sends a request. The caller must close the response's body. The error, and
// those of reading the body, contain neither the URL nor long text of the server.
// Response.Status is the code and its standard text.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	r := newRequest(req.Context(), c.timeout, c.stall)
	resp, err := c.http.Do(req.WithContext(r.ctx))
	r.stall.Stop()
	if err != nil {
		err = requestError(r.ctx, err)
		r.end()
		return nil, err
	}
	resp.Status = statusText(resp.StatusCode)
	resp.Body = &body{from: resp.Body, request: r}
	return resp, nil
}

// Get requests a document of at most limit bytes. The error of a response other
// than 200 is a *StatusError.
func (c *Client) Get(ctx context.Context, rawURL string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, ErrURL
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, NewStatusError(resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &TooLargeError{limit}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// ErrURL means that a URL cannot be parsed.
var ErrURL = fault.New(fault.Permanent, fault.Config, errors.New("cannot parse the url"))

// request has the time limits of one request.
type request struct {
	ctx        context.Context
	cancel     context.CancelCauseFunc
	stall      *time.Timer
	stallAfter time.Duration
	total      *time.Timer // nil: no limit
}

func newRequest(ctx context.Context, timeout, stall time.Duration) *request {
	r := &request{stallAfter: stall}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.stall = time.AfterFunc(stall, func() { r.cancel(StallError(stall)) })
	if timeout > 0 {
		r.total = time.AfterFunc(timeout, func() { r.cancel(TimeoutError(timeout)) })
	}
	return r
}

func (r *request) end() {
	r.stall.Stop()
	if r.total != nil {
		r.total.Stop()
	}
	r.cancel(nil)
}

// body is a response's body that ends if nothing arrives for a while. The time
// between two reads does not count.
type body struct {
	from    io.ReadCloser
	request *request
}

func (b *body) Read(p []byte) (int, error) {
	b.request.stall.Reset(b.request.stallAfter)
	n, err := b.from.Read(p)
	b.request.stall.Stop()
	if err != nil && err != io.EOF { //nolint:errorlint // a Reader returns io.EOF itself
		err = requestError(b.request.ctx, err)
	}
	return n, err
}

func (b *body) Close() error {
	err := b.from.Close()
	b.request.end()
	return err
}

package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
)

// Socket is an HTTP server on a Unix socket of the machine: Docker or a plugin.
type Socket struct{ http *http.Client }

// Socket returns the server on the socket at path. It does not connect yet.
func (h *Host) Socket(path string) *Socket {
	return &Socket{&http.Client{Transport: unixTransport(h.RealPath(path))}}
}

// LocalServer returns the HTTP server on a port of the machine's loopback address.
func (h *Host) LocalServer(port uint16) *Socket {
	return &Socket{&http.Client{Transport: localTransport(func(ctx context.Context) (net.Conn, error) { return h.network.DialLocal(ctx, port) })}}
}

// DialSocket connects to a Unix socket of the machine, whatever its protocol.
func (h *Host) DialSocket(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", h.RealPath(path))
}

// maxSocketHeader bounds the headers of a response, in bytes.
const maxSocketHeader = 64 << 10

// unixTransport connects to a socket of this machine, never through a proxy.
func unixTransport(socket string) *http.Transport {
	return localTransport(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", socket)
	})
}

// localTransport connects by dial.
func localTransport(dial func(context.Context) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxSocketHeader,
	}
}

// Do sends a request, whose body may be nil, and returns the response, whose body
// the caller must close. ctx must have a deadline, because a server can stop
// answering at any time.
func (s *Socket) Do(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	if _, limited := ctx.Deadline(); !limited {
		return nil, fmt.Errorf("cannot send %s %s: no time limit is set", method, path)
	}
	target := url.URL{Scheme: "http", Host: "localhost", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, withoutURL(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	return resp, nil
}

// withoutURL removes the placeholder URL of a socket from an error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// WithLimit calls do with a context that ends after limit. action completes
// "cannot …" in the error of a call that the limit ended.
func WithLimit(ctx context.Context, limit time.Duration, action string, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(limited)
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	return fault.New(fault.Retryable, fault.Timeout, fmt.Errorf("cannot %s: timed out after %v", action, limit))
}

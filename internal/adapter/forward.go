package adapter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/projecteru2/firstboot/internal/text"
)

// dialInterval is the time between two attempts to connect to the plugin.
const dialInterval = 100 * time.Millisecond

// maxHeader bounds the headers of a request and of an answer, in bytes.
const maxHeader = 64 << 10

// pluginClient returns a client of the plugin. Each call has its own connection: a
// kept one would fail the first call after the plugin restarted.
func pluginClient(socket string, dialLimit, callLimit time.Duration) *http.Client {
	return &http.Client{
		Timeout: callLimit,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial(ctx, socket, dialLimit)
			},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialError reports that nothing listens on the plugin's socket.
type dialError struct {
	after time.Duration
	err   error
}

func (e *dialError) Error() string {
	return fmt.Sprintf("no connection after %v: %v", e.after.Round(time.Second), e.err)
}

func (e *dialError) Unwrap() error { return e.err }

// dial connects to a socket, on which nothing may listen for some time. Nothing was
// sent yet, so it can try again.
func dial(ctx context.Context, socket string, limit time.Duration) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(dialInterval)
	defer tick.Stop()
	var dialer net.Dialer
	var last error
	for {
		conn, err := dialer.DialContext(limited, "unix", socket)
		if err == nil {
			return conn, nil
		}
		if last == nil || limited.Err() == nil { // not "deadline exceeded"
			last = err
		}
		select {
		case <-tick.C:
		case <-limited.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, &dialError{limit, last}
		}
	}
}

// hopHeaders belong to one connection (RFC 9110, 7.6.1), or describe the body of
// one connection.
func hopHeaders() []string {
	return []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Content-Length", "Accept-Encoding",
	}
}

func withoutHopHeaders(h http.Header) http.Header {
	kept := h.Clone()
	for _, name := range hopHeaders() {
		kept.Del(name)
	}
	return kept
}

// forward passes a call to the plugin and returns its answer unchanged.
func (a *Adapter) forward(ctx context.Context, c call) (answer, error) {
	target := url.URL{Scheme: "http", Host: "eru-minions", Path: c.url.Path, RawPath: c.url.RawPath, RawQuery: c.url.RawQuery}
	req, err := http.NewRequestWithContext(ctx, c.method, target.String(), bytes.NewReader(c.body))
	if err != nil {
		return answer{}, fmt.Errorf("cannot use Docker's request: %s", text.Line(err.Error()))
	}
	req.Header = withoutHopHeaders(c.header)
	resp, err := a.client.Do(req)
	if err != nil {
		return answer{}, pluginError(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return answer{}, pluginError(err)
	}
	if len(body) > maxBody {
		return answer{}, pluginError(fmt.Errorf("its answer is larger than %d bytes", maxBody))
	}
	if resp.StatusCode < http.StatusOK {
		return answer{}, pluginError(fmt.Errorf("its answer has the status %d", resp.StatusCode))
	}
	return answer{resp.StatusCode, withoutHopHeaders(resp.Header), body}, nil
}

// pluginError describes for an operator why the plugin gave no answer.
func pluginError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the placeholder URL
	}
	var timeout interface{ Timeout() bool }
	var dialed *dialError
	switch {
	case errors.As(err, &dialed):
		return fmt.Errorf("the network plugin eru-minions does not run (%s): %w; it needs etcd; run: systemctl status eru-minions", PluginSocket, err)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("the network plugin eru-minions did not answer for %v; it may wait for etcd; run: journalctl -u eru-minions", callLimit)
	case errors.Is(err, context.Canceled):
		return errors.New("Docker ended the call; run the docker command again") //nolint:staticcheck // a proper name
	}
	return fmt.Errorf("the call of the network plugin eru-minions failed: %s; run: systemctl status eru-minions, then the docker command again", text.Line(err.Error()))
}

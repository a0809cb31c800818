// Package webhook posts one JSON document to a URL. It retries for a limited time.
package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/internal/web"
)

const (
	// defaultTimeout bounds all attempts together.
	defaultTimeout = time.Minute
	// attemptTimeout bounds one attempt.
	attemptTimeout = 10 * time.Second
	// firstPause and longestPause are the mean pauses between attempts.
	firstPause, longestPause = 500 * time.Millisecond, time.Minute
	// maxRedirects bounds the redirects of one attempt.
	maxRedirects = 3
)

// Post is a JSON document to post.
type Post struct {
	URL       secret.Webhook // http or https
	Body      []byte         // JSON
	UserAgent string         // firstboot/v1.2.3
	Host      string         // sent as X-Firstboot-Host, if not empty
	Timeout   time.Duration
	// Proxy chooses the proxy; nil: the environment's.
	Proxy func(*http.Request) (*url.URL, error)
	// OnRetry is called after each failed attempt that is retried after the
	// given pause.
	OnRetry func(err error, pause time.Duration)
}

// Deliver posts the document until the server accepts it (2xx) or rejects it
// permanently, the timeout passes or ctx ends. Its error does not contain the
// URL's credentials.
func (p Post) Deliver(ctx context.Context) error {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.RandomizationFactor = firstPause, longestPause, 1
	client := p.client()
	var last error
	_, err := backoff.Retry(limited, func() (struct{}, error) {
		err := p.attempt(limited, client)
		if err != nil && limited.Err() == nil {
			last = err
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, pause time.Duration) {
		if p.OnRetry != nil && limited.Err() == nil {
			p.OnRetry(err, pause)
		}
	}))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("cannot report to %s: %w", p.URL, context.Cause(ctx))
	case limited.Err() != nil && last != nil:
		return fmt.Errorf("cannot report to %s: timed out after %s: %w", p.URL, timeout, last)
	case limited.Err() != nil:
		return fmt.Errorf("cannot report to %s: no response within %s", p.URL, timeout)
	}
	return fmt.Errorf("cannot report to %s: %w", p.URL, err)
}

func (p Post) client() *web.Client {
	return web.NewClient(web.Options{Proxy: p.Proxy, Timeout: attemptTimeout, Redirects: maxRedirects})
}

// attempt posts once. Its error is permanent if a retry cannot help.
func (p Post) attempt(ctx context.Context, client *web.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL.Reveal(), bytes.NewReader(p.Body))
	if err != nil {
		return backoff.Permanent(web.ErrURL)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.UserAgent)
	if p.Host != "" {
		req.Header.Set("X-Firstboot-Host", p.Host)
	}
	resp, err := client.Do(req)
	if err != nil {
		return web.Backoff(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return web.Backoff(web.NewStatusError(resp))
}

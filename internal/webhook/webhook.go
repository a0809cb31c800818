// Package webhook posts one JSON document to a URL. It retries, and gives up
// after a minute by default, because a report must not delay a boot.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/secret"
)

const (
	// defaultTimeout bounds all attempts together.
	defaultTimeout = time.Minute
	// attemptTimeout bounds one attempt.
	attemptTimeout = 10 * time.Second
	// firstPause and longestPause are the mean pauses between attempts.
	firstPause, longestPause = 500 * time.Millisecond, 10 * time.Second
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
		return fmt.Errorf("cannot report to %s: no answer within %s", p.URL, timeout)
	}
	return fmt.Errorf("cannot report to %s: %w", p.URL, err)
}

func (p Post) client() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	if p.Proxy != nil {
		t.Proxy = p.Proxy
	}
	return &http.Client{Transport: t, Timeout: attemptTimeout, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		// 301, 302 and 303 turn a POST into a GET without the document.
		if next.Method != http.MethodPost {
			return errors.New("the redirect turns the POST into a GET; check the url")
		}
		if len(before) > maxRedirects {
			return fmt.Errorf("more than %d redirects; check the url", maxRedirects)
		}
		next.Header.Del("Referer") // it may contain a token
		return nil
	}}
}

// attempt posts once. Its error is permanent if a retry cannot help.
func (p Post) attempt(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL.Reveal(), bytes.NewReader(p.Body))
	if err != nil {
		return backoff.Permanent(errors.New("not a url"))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.UserAgent)
	if p.Host != "" {
		req.Header.Set("X-Firstboot-Host", p.Host)
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL may contain a password
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	transient := []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}
	if resp.StatusCode < 500 && !slices.Contains(transient, resp.StatusCode) {
		return backoff.Permanent(err)
	}
	return err
}

// Package webhook delivers one JSON document to a server that waits for news,
// and gives up in time: news are worth a minute, not a boot.
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

	"github.com/projecteru2/firstboot/internal/config"
)

const (
	// DefaultWithin bounds all tries together.
	DefaultWithin = time.Minute
	// perTry bounds one try: a server that is there answers in less.
	perTry = 10 * time.Second
	// firstPause and longestPause are the means of the pauses between tries.
	firstPause, longestPause = 500 * time.Millisecond, 10 * time.Second
)

// Post is one delivery.
type Post struct {
	URL       config.URL // http or https
	Body      []byte     // JSON
	UserAgent string     // the User-Agent: firstboot/v1.2.3
	Host      string     // sent as X-Firstboot-Host, for servers that know hosts by name
	Within    time.Duration
	// Proxy chooses the proxy; nil: the environment's.
	Proxy func(*http.Request) (*url.URL, error)
	// OnRetry is told about each try that failed and is followed by another.
	OnRetry func(err error, next time.Duration)
}

// Deliver posts until the server takes it (2xx), refuses it for good, the time
// is up or ctx ends. Errors never hold the URL's credentials.
func (p Post) Deliver(ctx context.Context) error {
	within := p.Within
	if within <= 0 {
		within = DefaultWithin
	}
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.RandomizationFactor = firstPause, longestPause, 1
	client := p.client()
	var last error
	_, err := backoff.Retry(limited, func() (struct{}, error) {
		err := p.try(limited, client)
		if err != nil && limited.Err() == nil {
			last = err
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, next time.Duration) {
		if p.OnRetry != nil && limited.Err() == nil {
			p.OnRetry(err, next)
		}
	}))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("cannot tell %s: %w", p.URL, context.Cause(ctx))
	case limited.Err() != nil && last != nil:
		return fmt.Errorf("cannot tell %s within %s: %w", p.URL, within, last)
	case limited.Err() != nil:
		return fmt.Errorf("cannot tell %s: no answer within %s", p.URL, within)
	}
	return fmt.Errorf("cannot tell %s: %w", p.URL, err)
}

func (p Post) client() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	if p.Proxy != nil {
		t.Proxy = p.Proxy
	}
	return &http.Client{Transport: t, Timeout: perTry, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		// 301, 302 and 303 would turn it into a GET that delivers nothing.
		if next.Method != http.MethodPost || len(before) > 3 {
			return errors.New("the server redirects to where nothing can be posted: is it the right url?")
		}
		next.Header.Del("Referer") // it may hold a token
		return nil
	}}
}

// try posts once. An answer that time will not change is permanent.
func (p Post) try(ctx context.Context, client *http.Client) error {
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
			err = u.Err // without the url: it may hold a password
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	later := []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}
	if resp.StatusCode < 500 && !slices.Contains(later, resp.StatusCode) {
		return backoff.Permanent(err)
	}
	return err
}

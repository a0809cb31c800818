package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/secret"
)

// fetcher fetches a configuration or its signature by URL
// (config.Options.Fetch). It does not verify what it fetches.
type fetcher struct {
	transport http.RoundTripper
	printf    func(string, ...any) // prints what the fetcher waits for
}

// fetchTimeout limits one attempt, maxFetchPause the mean pause between two.
const (
	fetchTimeout  = 30 * time.Second
	maxFetchPause = 10 * time.Second
)

// fetch repeats its attempts until the server answers or ctx ends: the network
// may come up late.
func (f fetcher) fetch(ctx context.Context, location secret.URL) ([]byte, error) {
	if path := strings.TrimPrefix(location.Reveal(), "file://"); strings.HasPrefix(path, "/") {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return readLimited(file)
	}
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval, pause.RandomizationFactor = maxFetchPause, 1
	return backoff.Retry(ctx, func() ([]byte, error) {
		body, err := f.get(ctx, location)
		if err != nil {
			return nil, err
		}
		return readLimited(body)
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, pause time.Duration) {
		f.printf("waiting for the configuration at %s: %v; next attempt in %s", location, err, pause.Round(time.Second))
	}))
}

// get makes one attempt. Its error is permanent if a retry cannot help.
func (f fetcher) get(ctx context.Context, location secret.URL) (io.ReadCloser, error) {
	client := http.Client{Transport: f.transport, Timeout: fetchTimeout}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.Reveal(), nil)
	if err != nil {
		return nil, backoff.Permanent(errors.New("not a URL"))
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL may contain a password
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	resp.Body.Close()
	err = fmt.Errorf("the server answered %s", resp.Status)
	transient := resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode == http.StatusTooManyRequests
	if resp.StatusCode < 500 && !transient {
		return nil, backoff.Permanent(err)
	}
	return nil, artifact.WithRetryAfter(err, resp)
}

// readLimited reads one byte more than a configuration may have, so that the
// reader of the configuration detects one that is too large. It closes r.
func readLimited(r io.ReadCloser) ([]byte, error) {
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, config.MaxSource+1))
}

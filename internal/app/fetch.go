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
)

// fetcher gets a configuration, or its signature, by URL
// (config.Options.Fetch); what it must be is checked there.
type fetcher func(ctx context.Context, location config.URL) ([]byte, error)

// fetchTry bounds one try, fetchPause the mean pause between two.
const (
	fetchTry   = 30 * time.Second
	fetchPause = 10 * time.Second
)

// newFetcher gets a configuration as soon as the network and the server are
// there, however long that takes. say is told what it waits for.
func newFetcher(say func(string, ...any)) fetcher {
	return func(ctx context.Context, location config.URL) ([]byte, error) {
		if path := strings.TrimPrefix(location.Reveal(), "file://"); strings.HasPrefix(path, "/") {
			return readCapped(func() (io.ReadCloser, error) { return os.Open(path) })
		}
		pause := backoff.NewExponentialBackOff()
		pause.MaxInterval, pause.RandomizationFactor = fetchPause, 1
		return backoff.Retry(ctx, func() ([]byte, error) {
			return readCapped(func() (io.ReadCloser, error) { return get(ctx, location) })
		}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, next time.Duration) {
			say("waiting for the configuration at %s: %v; next try in %s", location, err, next.Round(time.Second))
		}))
	}
}

// get asks once. An answer that time will not change ends the waiting.
func get(ctx context.Context, location config.URL) (io.ReadCloser, error) {
	client := http.Client{Timeout: fetchTry}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.Reveal(), nil)
	if err != nil {
		return nil, backoff.Permanent(errors.New("not a URL"))
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL: it may hold a password
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	resp.Body.Close()
	err = fmt.Errorf("the server answered %s", resp.Status)
	late := resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode == http.StatusTooManyRequests
	if resp.StatusCode < 500 && !late {
		return nil, backoff.Permanent(err)
	}
	return nil, artifact.WithRetryAfter(err, resp)
}

// readCapped reads what opens, up to the size that a configuration may have.
func readCapped(open func() (io.ReadCloser, error)) ([]byte, error) {
	from, err := open()
	if err != nil {
		return nil, err
	}
	defer from.Close()
	return io.ReadAll(io.LimitReader(from, config.MaxSource+1))
}

package app

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/internal/web"
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
		return host.New("/").ReadFile(path)
	}
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval, pause.RandomizationFactor = maxFetchPause, 1
	client := web.NewClient(web.Options{Transport: f.transport, Timeout: fetchTimeout})
	return backoff.Retry(ctx, func() ([]byte, error) {
		data, err := client.Get(ctx, location.Reveal(), config.MaxSource)
		return data, web.Backoff(err)
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, pause time.Duration) {
		f.printf("waiting for the configuration at %s: %v; next attempt in %s", location, err, pause.Round(time.Second))
	}))
}

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ErrNoV2 means that etcd does not serve its v2 API, which Docker's
// cluster-store needs. Errors that wrap it have a hint.
var ErrNoV2 = errors.New("etcd does not serve the v2 API")

// maxV2Response limits a response of the v2 API, in bytes. It is the list of the
// top-level keys.
const maxV2Response = 1 << 20

// v2Grace is how long ServesV2 waits for the other endpoints after one of them
// answered.
const v2Grace = time.Second

// ServesV2 checks that every endpoint that answers serves the v2 API, because
// Docker may use any of them. It fails if no endpoint answers. The endpoints are
// queried in parallel: one that does not answer does not delay the result.
func (c *Client) ServesV2(ctx context.Context) error {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	client, done := c.httpClient()
	defer done()
	answers := make(chan answer, len(c.endpoints))
	for i, endpoint := range c.endpoints {
		go func() { answers <- answer{i, c.servesV2(ctx, client, endpoint)} }()
	}
	failed := make([]error, len(c.endpoints))
	var grace <-chan time.Time
	for range c.endpoints {
		select {
		case a := <-answers:
			if errors.Is(a.err, ErrNoV2) {
				return a.err
			}
			if a.err == nil && grace == nil {
				grace = time.After(v2Grace)
			}
			failed[a.endpoint] = a.err
		case <-grace:
			return nil
		}
	}
	if grace != nil {
		return nil
	}
	return c.wrapError("query the v2 API of", joined(failed))
}

// answer is the result of querying one endpoint.
type answer struct {
	endpoint int // index
	err      error
}

// joined returns the errors of all endpoints as one line.
func joined(errs []error) error {
	var texts []string
	for _, err := range errs {
		if text := err.Error(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return &shortError{strings.Join(texts, "; "), errors.Join(errs...)}
}

// httpClient returns an HTTP client for the endpoints. It uses no proxy, like the
// etcd client and Docker, and follows no redirects.
func (c *Client) httpClient() (client *http.Client, done func()) {
	transport := &http.Transport{TLSClientConfig: c.tls.Clone(), DisableKeepAlives: true}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, transport.CloseIdleConnections
}

func (c *Client) servesV2(ctx context.Context, client *http.Client, endpoint string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(endpoint, "/")+"/v2/keys/", nil)
	if err != nil {
		return fmt.Errorf("%q is not a valid endpoint", sanitize(endpoint))
	}
	resp, err := client.Do(req)
	if err != nil {
		return c.files.Explain(unwrapNetError(err), time.Now())
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		if why := c.probe(ctx, client, endpoint); why != nil {
			return configError(fmt.Errorf("%w: %w", ErrNoV2, why), notEtcdHint)
		}
		return configError(fmt.Errorf("%w: %s answers 404 to /v2/keys", ErrNoV2, endpoint),
			"start etcd with --enable-v2 (etcd 3.5 or older; newer ones have no v2 API)")
	case http.StatusOK:
		return isV2(resp.Body, endpoint)
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil // the API is served; the user's permissions do not matter here
	}
	return fmt.Errorf("%s answers %d to /v2/keys", endpoint, resp.StatusCode)
}

// isV2 returns an error if the response is not from etcd's v2 API but from
// another web server.
func isV2(body io.Reader, endpoint string) error {
	var answer struct {
		Action string `json:"action"`
		Node   *struct {
			Dir bool `json:"dir"`
		} `json:"node"`
	}
	data, err := io.ReadAll(io.LimitReader(body, maxV2Response))
	if err != nil {
		return err
	}
	if len(data) == maxV2Response {
		return nil // only etcd returns so many keys
	}
	if json.Unmarshal(data, &answer) != nil || answer.Action != "get" || answer.Node == nil || !answer.Node.Dir {
		return configError(fmt.Errorf("%w: %s answers /v2/keys with other content", ErrNoV2, endpoint), notEtcdHint)
	}
	return nil
}

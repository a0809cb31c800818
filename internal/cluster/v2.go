package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// ErrNoV2 says that etcd does not serve its v2 API, which Docker's cluster
// store needs. Its errors carry a hint.
var ErrNoV2 = errors.New("etcd does not serve the v2 API")

// maxV2 bounds an answer of the v2 API, in bytes: the list of the top keys.
const maxV2 = 1 << 20

// ServesV2 asks every endpoint whether it serves the v2 API. All that answer
// must: Docker may use any of them. One that does not answer is passed over as
// long as another one does.
func (c *Client) ServesV2(ctx context.Context) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	client, done := c.httpClient()
	defer done()
	answered := false
	var last error
	for _, endpoint := range c.endpoints {
		err := servesV2(ctx, client, endpoint)
		if errors.Is(err, ErrNoV2) {
			return err
		}
		answered, last = answered || err == nil, err
	}
	if answered {
		return nil
	}
	return c.fail("ask for the v2 API of", last)
}

// httpClient talks to the endpoints as plain web servers, without a proxy, as
// the etcd client and Docker do.
func (c *Client) httpClient() (client *http.Client, done func()) {
	transport := &http.Transport{TLSClientConfig: c.tls.Clone(), DisableKeepAlives: true}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, transport.CloseIdleConnections
}

func servesV2(ctx context.Context, client *http.Client, endpoint string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(endpoint, "/")+"/v2/keys/", nil)
	if err != nil {
		return fmt.Errorf("%q is no endpoint", clean(endpoint))
	}
	resp, err := client.Do(req)
	if err != nil {
		return withoutFrame(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return hinted(fmt.Errorf("%w: %s answers 404 to /v2/keys", ErrNoV2, endpoint),
			"start etcd with --enable-v2 (etcd 3.5 or older; newer ones have no v2 API)")
	case http.StatusOK:
		return isV2(resp.Body, endpoint)
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil // it is served; to whom is not asked here
	}
	return fmt.Errorf("%s answers %d to /v2/keys", endpoint, resp.StatusCode)
}

// isV2 tells an answer of etcd from that of some other web server.
func isV2(body io.Reader, endpoint string) error {
	var answer struct {
		Action string `json:"action"`
		Node   *struct {
			Dir bool `json:"dir"`
		} `json:"node"`
	}
	data, err := io.ReadAll(io.LimitReader(body, maxV2))
	if err != nil {
		return err
	}
	if len(data) == maxV2 {
		return nil // nothing else has so many keys
	}
	if json.Unmarshal(data, &answer) != nil || answer.Action != "get" || answer.Node == nil || !answer.Node.Dir {
		return hinted(fmt.Errorf("%w: %s answers /v2/keys with something else", ErrNoV2, endpoint), "is this endpoint an etcd?")
	}
	return nil
}

package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/secret"
)

// server answers with the codes in turn, and then with the last one. It returns
// its URL and the number of requests.
func server(t *testing.T, codes ...int) (secret.Webhook, *atomic.Int64) {
	t.Helper()
	requests := new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(requests.Add(1))
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"a":1}` || r.Method != http.MethodPost ||
			r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Firstboot-Host") != "web-1" {
			t.Errorf("request %s %s %v, %v", r.Method, body, r.Header, err)
		}
		if code := codes[min(n, len(codes))-1]; code/100 == 3 {
			http.Redirect(w, r, "/elsewhere", code)
		} else {
			w.WriteHeader(code)
		}
	}))
	t.Cleanup(s.Close)
	return secret.Webhook(strings.Replace(s.URL, "://", "://user:hidden@", 1) + "/done?token=hidden"), requests
}

func deliver(t *testing.T, url secret.Webhook, timeout time.Duration) error {
	return Post{URL: url, Body: []byte(`{"a":1}`), UserAgent: "firstboot/test", Host: "web-1", Timeout: timeout}.Deliver(t.Context())
}

func TestDeliverRetriesTransientErrors(t *testing.T) {
	url, requests := server(t, 503, 429, 204)
	if err := deliver(t, url, 0); err != nil || requests.Load() != 3 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
}

func TestDeliverFollowsRedirect(t *testing.T) {
	url, requests := server(t, 307, 200)
	if err := deliver(t, url, 0); err != nil || requests.Load() != 2 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
}

func TestDeliverDoesNotRetryPermanentError(t *testing.T) {
	for code, want := range map[int]string{404: "the server answered 404 Not Found", 302: "the redirect turns the POST into a GET"} {
		url, requests := server(t, code)
		err := deliver(t, url, 0)
		if err == nil || !strings.Contains(err.Error(), want) || requests.Load() != 1 {
			t.Errorf("%d requests, %v", requests.Load(), err)
		}
		if strings.Contains(err.Error(), "hidden") {
			t.Errorf("the error contains a secret: %v", err)
		}
	}
}

func TestDeliverTimesOut(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	release := make(chan struct{})
	stalled := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release); stalled.Close() })
	for want, url := range map[string]secret.Webhook{
		"connection refused":       secret.Webhook(closed.URL),
		"no response within 300ms": secret.Webhook(stalled.URL),
	} {
		start := time.Now()
		err := deliver(t, url, 300*time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v, want %q", err, want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %s", want, took)
		}
	}
}

func TestDeliverStopsWithItsContext(t *testing.T) {
	url, requests := server(t, 500)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by SIGTERM")
	p := Post{URL: url, Body: []byte(`{"a":1}`), Host: "web-1", OnRetry: func(error, time.Duration) { cancel(stop) }}
	if err := p.Deliver(ctx); !errors.Is(err, stop) || requests.Load() != 1 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
}

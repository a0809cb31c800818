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

	"github.com/projecteru2/firstboot/internal/config"
)

// server answers with the codes in turn, the last one for ever.
func server(t *testing.T, codes ...int) (config.URL, *atomic.Int64) {
	t.Helper()
	asked := new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1))
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"a":1}` || r.Method != http.MethodPost ||
			r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Firstboot-Host") != "web-1" {
			t.Errorf("got %s %s %v, %v", r.Method, body, r.Header, err)
		}
		if code := codes[min(n, len(codes))-1]; code/100 == 3 {
			http.Redirect(w, r, "/elsewhere", code)
		} else {
			w.WriteHeader(code)
		}
	}))
	t.Cleanup(s.Close)
	return config.URL(strings.Replace(s.URL, "://", "://user:hidden@", 1) + "/done?token=hidden"), asked
}

func deliver(t *testing.T, url config.URL, within time.Duration) error {
	return Post{URL: url, Body: []byte(`{"a":1}`), UserAgent: "firstboot/test", Host: "web-1", Within: within}.Deliver(t.Context())
}

func TestDeliveredAfterTroubleThatPasses(t *testing.T) {
	url, asked := server(t, 503, 429, 204)
	if err := deliver(t, url, 0); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times, %v", asked.Load(), err)
	}
}

func TestRedirectKeepsThePost(t *testing.T) {
	url, asked := server(t, 307, 200)
	if err := deliver(t, url, 0); err != nil || asked.Load() != 2 {
		t.Errorf("asked %d times, %v", asked.Load(), err)
	}
}

func TestRefusedForGood(t *testing.T) {
	url, asked := server(t, 404)
	err := deliver(t, url, 0)
	if err == nil || !strings.Contains(err.Error(), "the server answered 404 Not Found") || asked.Load() != 1 {
		t.Errorf("asked %d times, %v", asked.Load(), err)
	}
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("a secret is told: %v", err)
	}
}

func TestGivesUpInTime(t *testing.T) {
	url, _ := server(t, 302) // would become a GET
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	silent := make(chan struct{})
	mute := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	t.Cleanup(func() { close(silent); mute.Close() })
	for want, url := range map[string]config.URL{
		"redirects to where nothing can be posted": url,
		"connection refused":                       config.URL(closed.URL),
		"no answer within 300ms":                   config.URL(mute.URL),
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

func TestEndsWithItsContext(t *testing.T) {
	url, asked := server(t, 500)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("told to stop")
	p := Post{URL: url, Body: []byte(`{"a":1}`), Host: "web-1", OnRetry: func(error, time.Duration) { cancel(stop) }}
	if err := p.Deliver(ctx); !errors.Is(err, stop) || asked.Load() != 1 {
		t.Errorf("asked %d times, %v", asked.Load(), err)
	}
}

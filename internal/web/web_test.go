package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/fault"
)

// rawServer answers every connection with the same bytes.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, answer)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

const mib = 1 << 20

// TestTextOfServersIsShortAndPrintable: what a server sends must not fill a
// journal or reach a terminal.
func TestTextOfServersIsShortAndPrintable(t *testing.T) {
	long := strings.Repeat("x", 5*mib)
	for name, answer := range map[string]string{
		"long status text":       "HTTP/1.1 404 " + long + "\r\n\r\n",
		"escapes in the status":  "HTTP/1.1 404 \x1b[31mred\r\nContent-Length: 0\r\n\r\n",
		"long scheme":            "HTTP/1.1 302 Found\r\nLocation: " + long + "://host/\r\n\r\n",
		"unknown scheme":         "HTTP/1.1 302 Found\r\nLocation: " + long[:9000] + "://host/\r\n\r\n",
		"invalid location":       "HTTP/1.1 302 Found\r\nLocation: http://%" + long[:9000] + "/\r\n\r\n",
		"redirect to a file":     "HTTP/1.1 302 Found\r\nLocation: file:///etc/shadow\r\n\r\n",
		"long header":            "HTTP/1.1 200 OK\r\nX: " + long + "\r\n\r\n",
		"long protocol":          long + " 200 OK\r\n\r\n",
		"malformed header":       "HTTP/1.1 200 OK\r\n\x1b[31m" + long[:9000] + "\r\n\r\n",
		"malformed length":       "HTTP/1.1 200 OK\r\nContent-Length: " + long[:9000] + "\r\n\r\n",
		"unknown coding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + long[:9000] + "\r\n\r\n",
		"malformed chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + long[:9000] + "\r\n",
		"informational for ever": strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", 9000),
		"long body":              "HTTP/1.1 200 OK\r\n\r\n" + long,
	} {
		_, err := NewClient(Options{}).Get(t.Context(), rawServer(t, answer)+"/?token=hidden", 1000)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if s := err.Error(); len(s) > 310 || strings.ContainsFunc(s, unicode.IsControl) || strings.Contains(s, "hidden") {
			t.Errorf("%s: %d bytes: %.400q", name, len(s), s)
		}
	}
}

func TestStatusTextIsTheStandardOne(t *testing.T) {
	for answer, want := range map[string]string{"404 \x1b[31mred": "404 Not Found", "503 try http://evil": "503 Service Unavailable", "599 odd": "599"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, rawServer(t, "HTTP/1.1 "+answer+"\r\nContent-Length: 0\r\n\r\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := NewClient(Options{}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := NewStatusError(resp).Error(); resp.Status != want || got != "the server answered "+want {
			t.Errorf("%q: %q, %q", answer, resp.Status, got)
		}
	}
}

func TestRedirectSendsNoReferer(t *testing.T) {
	var referers []string
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		referers = append(referers, fmt.Sprint(r.Header["Referer"], r.Header["Authorization"], r.URL.RawQuery))
	}))
	defer target.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(target.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
	}))
	defer first.Close()
	url := strings.Replace(first.URL, "://", "://user:hidden@", 1) + "/?token=hidden"
	if _, err := NewClient(Options{}).Get(t.Context(), url, 10); err != nil {
		t.Fatal(err)
	}
	if len(referers) != 1 || referers[0] != "[] []" {
		t.Errorf("the next server received %q", referers)
	}
}

func TestRedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	var reached atomic.Bool
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusTemporaryRedirect))
	defer secure.Close()
	_, err := NewClient(Options{Transport: secure.Client().Transport}).Get(t.Context(), secure.URL, 10)
	if err == nil || err.Error() != "the server redirects from https to http" || !fault.IsPermanent(err) || reached.Load() {
		t.Errorf("%v, reached %v", err, reached.Load())
	}
}

func TestRedirectsAreLimited(t *testing.T) {
	requests := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		http.Redirect(w, r, "/", http.StatusFound)
	}))
	defer s.Close()
	_, err := NewClient(Options{Redirects: 3}).Get(t.Context(), s.URL, 10)
	if err == nil || err.Error() != "redirected more than 3 times" || requests != 4 || !fault.IsPermanent(err) {
		t.Errorf("%v after %d requests", err, requests)
	}
}

func TestPostIsNotTurnedIntoGet(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("/next", http.StatusFound))
	defer s.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	//nolint:bodyclose // there is no response
	if _, err = NewClient(Options{}).Do(req); err == nil || err.Error() != "the redirect turns the POST into a GET" {
		t.Error(err)
	}
}

// pipeTransport answers with a body that the test writes.
type pipeTransport struct {
	r    *io.PipeReader
	wait time.Duration // before the response
}

func (p pipeTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-time.After(p.wait):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	context.AfterFunc(req.Context(), func() { p.r.CloseWithError(req.Context().Err()) })
	return &http.Response{StatusCode: http.StatusOK, Body: p.r, ContentLength: -1}, nil
}

func TestSilentServerEndsTheRequest(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		header  time.Duration
		parts   int // of one byte, every 20 s
		want    error
	}{
		"no response":        {Options{}, time.Hour, 0, StallError(30 * time.Second)},
		"no data":            {Options{}, 0, 3, StallError(30 * time.Second)},
		"slow data":          {Options{Timeout: time.Minute}, 0, 100, TimeoutError(time.Minute)},
		"slow and unlimited": {Options{Stall: 25 * time.Second}, 20 * time.Second, 9, StallError(25 * time.Second)},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			test.options.Transport = pipeTransport{r, test.header}
			var writer sync.WaitGroup
			defer writer.Wait()
			defer r.Close()
			writer.Go(func() {
				for range test.parts {
					time.Sleep(20 * time.Second)
					if _, err := w.Write([]byte("x")); err != nil {
						return
					}
				}
			})
			_, err := NewClient(test.options).Get(t.Context(), "http://host/", mib)
			if !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", name, err, test.want)
			}
		})
	}
}

// The time that the caller spends between two reads is not the server's.
func TestSlowReaderIsNoSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		go func() { _, _ = w.Write([]byte("x")); _, _ = w.Write([]byte("y")); w.Close() }()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://host/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := NewClient(Options{Transport: pipeTransport{r: r}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "y" {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestProxyIsTheConfiguredOne(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://environment:1")
	t.Setenv("NO_PROXY", "near")
	for _, test := range []struct{ http, https, no, url, want string }{
		{url: "http://far/", want: "http://environment:1"},
		{url: "http://near/", want: "<nil>"},
		{url: "http://127.0.0.1/", want: "<nil>"},
		{http: "http://plain:2", https: "http://tls:3", url: "http://near/", want: "http://plain:2"},
		{http: "http://plain:2", https: "http://tls:3", no: "near", url: "https://far/", want: "http://tls:3"},
		{http: "http://plain:2", no: "far", url: "http://far/", want: "<nil>"},
	} {
		got, err := Proxy(test.http, test.https, test.no)(httptest.NewRequest(http.MethodGet, test.url, nil))
		if err != nil || fmt.Sprint(got) != test.want {
			t.Errorf("%+v: %v, %v", test, got, err)
		}
	}
}

func TestBackoffRespectsTheServersPause(t *testing.T) {
	for header, shortest := range map[string]time.Duration{
		"": 0, "soon": 0, "-3": 0, "0": 0, "7": 7 * time.Second, "86400": maxRetryAfter, "99999999999999999999": 0,
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): maxRetryAfter,
	} {
		cause := NewStatusError(&http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {header}}})
		err := Backoff(cause)
		var after *backoff.RetryAfterError
		found := errors.As(err, &after)
		if found != (shortest > 0) || !errors.Is(err, cause) || err.Error() != cause.Error() {
			t.Errorf("%q: %v", header, err)
		}
		if found && (after.Duration < shortest || after.Duration > shortest+retrySpread+time.Second) {
			t.Errorf("%q: pause %v, want at least %v", header, after.Duration, shortest)
		}
	}
	var permanent *backoff.PermanentError
	if err := Backoff(NewStatusError(&http.Response{StatusCode: http.StatusNotFound})); !errors.As(err, &permanent) {
		t.Errorf("404: %v", err)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "1", "-1", "120", "Wed, 21 Oct 2026 07:28:00 GMT", "1e9", "99999999999999999999"} {
		f.Add(seed)
	}
	now := time.Unix(1.7e9, 0)
	f.Fuzz(func(t *testing.T, header string) {
		if d := retryAfter(header, now); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: %v", header, d)
		}
	})
}

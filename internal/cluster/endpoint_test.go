package cluster

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// versionOf answers like an etcd without the v2 API.
func versionOf(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/version" {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, `{"etcdserver":"3.5.16","etcdcluster":"3.5.0"}`)
}

// withV2 answers like an etcd with the v2 API.
func withV2(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/version" {
		versionOf(w, r)
		return
	}
	_, _ = io.WriteString(w, `{"action":"get","node":{"dir":true}}`)
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// TestSilentEndpointDoesNotDelayTheOthers: in any order, and also if several do
// not answer.
func TestSilentEndpointDoesNotDelayTheOthers(t *testing.T) {
	t.Parallel()
	live, silent, other := serve(t, withV2), "http://"+silentAddress(t), "http://"+silentAddress(t)
	for _, endpoints := range [][]string{{silent, live}, {live, silent}, {silent, other, live}, {live}} {
		c, err := Dial(Options{Endpoints: endpoints})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := c.ServesV2(t.Context()); err != nil {
			t.Errorf("ServesV2 with %v = %v", endpoints, err)
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("ServesV2 with %v took %s", endpoints, took)
		}
		c.Close()
	}
}

// TestOtherServerIsNamed: an endpoint where another server answers is reported
// as such, at once and with a hint.
func TestOtherServerIsNamed(t *testing.T) {
	t.Parallel()
	page := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>It works</html>") })
	missing := serve(t, http.NotFound)
	redirects := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) })
	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	secure := httptest.NewUnstartedServer(http.HandlerFunc(versionOf))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := strings.Replace(secure.URL, "https://", "http://", 1)
	for _, test := range []struct{ what, endpoint, want string }{
		{"a web page", page, " answers, but is not etcd"},
		{"a web server without the path", missing, " answers, but is not etcd"},
		{"a redirect", redirects, " answers, but is not etcd"},
		{"an endless answer", endless, " answers, but is not etcd"},
		{"a server with TLS", plain, " requires https"},
	} {
		c, err := Dial(Options{Endpoints: []string{test.endpoint}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err = c.Ping(t.Context())
		want := strings.TrimPrefix(test.endpoint, "http://") + test.want
		if err == nil || !strings.Contains(err.Error(), want) || time.Since(start) > 5*time.Second {
			t.Errorf("%s: Ping = %v after %s, want %q", test.what, err, time.Since(start), want)
		}
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "etcd.endpoints") {
			t.Errorf("%s: %v has no hint about etcd.endpoints", test.what, err)
		}
		c.Close()
	}
	c, err := Dial(Options{Endpoints: []string{missing}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.ServesV2(t.Context()); !errors.Is(err, ErrNoV2) || !strings.Contains(err.Error(), "is not etcd") {
		t.Errorf("ServesV2 = %v", err)
	}
}

// TestEtcdIsNotReachedThroughAProxy runs itself with the environment of a host
// that has a proxy: Go reads these variables only once per process.
func TestEtcdIsNotReachedThroughAProxy(t *testing.T) {
	if os.Getenv("HTTPS_PROXY") != "" {
		c, err := Dial(Options{Endpoints: []string{"http://etcd.invalid:2379", "https://etcd.invalid:2380"}, Timeout: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.Ping(t.Context()) == nil || c.ServesV2(t.Context()) == nil {
			t.Error("a host that does not exist answered")
		}
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var requests atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			requests.Add(1)
			conn.Close()
		}
	}()
	child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	proxy := "http://" + l.Addr().String()
	child.Env = append(os.Environ(), "HTTPS_PROXY="+proxy, "HTTP_PROXY="+proxy, "https_proxy="+proxy, "ALL_PROXY="+proxy, "NO_PROXY=", "no_proxy=")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("the proxy got %d requests for etcd", n)
	}
}

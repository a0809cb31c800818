package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
)

func TestDialRejectsInvalidOptions(t *testing.T) {
	dir := t.TempDir()
	notPEM := filepath.Join(dir, "not.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	endpoints := []string{"https://127.0.0.1:1"}
	for what, o := range map[string]Options{
		"no endpoint":                     {},
		"a missing CA":                    {Endpoints: endpoints, CAFile: filepath.Join(dir, "missing")},
		"a CA file without PEM":           {Endpoints: endpoints, CAFile: notPEM},
		"a directory as CA":               {Endpoints: endpoints, CAFile: dir},
		"a certificate without key":       {Endpoints: endpoints, CertFile: notPEM},
		"certificate and key without PEM": {Endpoints: endpoints, CertFile: notPEM, KeyFile: notPEM},
	} {
		if c, err := Dial(o); err == nil {
			c.Close()
			t.Errorf("%s: no error", what)
		}
	}
}

// TestCallsFailInTimeWithoutEtcd: every call ends at its deadline and returns the
// reason, whether the connection is refused or etcd does not answer.
func TestCallsFailInTimeWithoutEtcd(t *testing.T) {
	closed := closedAddress(t)
	silent := silentAddress(t)
	for _, test := range []struct{ what, endpoint, want string }{
		{"nothing listens", closed, "connection refused"},
		{"nothing answers", silent, "does not answer"},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			c, err := Dial(Options{Endpoints: []string{"http://" + test.endpoint}, Timeout: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var calls sync.WaitGroup
			for call, use := range map[string]func(context.Context) error{
				"Ping":               c.Ping,
				"Pools":              func(ctx context.Context) error { _, err := c.Pools(ctx); return err },
				"Node":               func(ctx context.Context) error { _, err := c.Node(ctx, "h"); return err },
				"Holder":             func(ctx context.Context) error { _, err := c.Holder(ctx, "pool"); return err },
				"Lock":               func(ctx context.Context) error { _, err := c.Lock(ctx, "pool", "h", time.Minute, nil); return err },
				"PutHostRecord":      func(ctx context.Context) error { return c.PutHostRecord(ctx, HostRecord{Name: "h"}, 0) },
				"HostRecords":        func(ctx context.Context) error { _, err := c.HostRecords(ctx); return err },
				"ClusterInformation": func(ctx context.Context) error { _, err := c.ClusterInformation(ctx); return err },
			} {
				calls.Go(func() {
					start := time.Now()
					err := use(context.Background())
					if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.endpoint) {
						t.Errorf("%s = %v, want %q and the endpoint", call, err, test.want)
					}
					if fault.IsPermanent(err) {
						t.Errorf("%s: %v is permanent", call, err)
					}
					if took := time.Since(start); took > 3*time.Second {
						t.Errorf("%s took %v", call, took)
					}
				})
			}
			calls.Wait()
			if err := c.ServesV2(context.Background()); err == nil || errors.Is(err, ErrNoV2) {
				t.Errorf("ServesV2 = %v, want a connection error", err)
			}
		})
	}
}

// TestPingFailsAtOnceIfAllEndpointsRefuse: Ping does not use up its timeout. It
// waits for an endpoint that may still answer.
func TestPingFailsAtOnceIfAllEndpointsRefuse(t *testing.T) {
	t.Parallel()
	closed, other, silent := "http://"+closedAddress(t), "http://"+closedAddress(t), "http://"+silentAddress(t)
	for _, c := range []struct {
		what      string
		endpoints []string
		atOnce    bool
		want      string
	}{
		{"one etcd", []string{closed}, true, "connection refused"},
		{"two, both down", []string{closed, other}, true, "connection refused; "},
		{"an unknown host name", []string{"http://etcd.invalid:2379"}, true, "etcd.invalid"},
		{"one silent", []string{closed, silent}, false, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if !c.atOnce {
				limit = 2 * time.Second
			}
			client, err := Dial(Options{Endpoints: c.endpoints, Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			start := time.Now()
			err = client.Ping(t.Context())
			if took := time.Since(start); err == nil || (took < limit) != c.atOnce || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Ping = %v after %v", err, took)
			}
		})
	}
}

func TestServesV2(t *testing.T) {
	for what, test := range map[string]struct {
		status int
		body   string
		want   error // nil: served; errAny: an error other than ErrNoV2
	}{
		"etcd":             {200, `{"action":"get","node":{"dir":true}}`, nil},
		"with keys":        {200, `{"action":"get","node":{"dir":true,"nodes":[{"key":"/docker","dir":true}]}}`, nil},
		"a user is needed": {401, `{"errorCode":110}`, nil},
		"switched off":     {404, "404 page not found\n", ErrNoV2},
		"a web server":     {200, "<html>It works!</html>", ErrNoV2},
		"other JSON":       {200, `{"ok":true}`, ErrNoV2},
		"broken":           {500, "", errAny},
		"elsewhere":        {302, "", errAny},
	} {
		t.Run(what, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/version" {
					versionOf(w, r)
					return
				}
				if !strings.HasPrefix(r.URL.Path, "/v2/keys") {
					t.Errorf("requested %s", r.URL)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				w.Write([]byte(test.body))
			}))
			defer server.Close()
			c, err := Dial(Options{Endpoints: []string{server.URL}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = c.ServesV2(t.Context())
			switch {
			case test.want == nil && err != nil:
				t.Errorf("ServesV2 = %v, want nil", err)
			case test.want == ErrNoV2 && !errors.Is(err, ErrNoV2):
				t.Errorf("ServesV2 = %v, want ErrNoV2", err)
			case test.want == errAny && (err == nil || errors.Is(err, ErrNoV2)):
				t.Errorf("ServesV2 = %v, want another error", err)
			}
			var hinted interface{ Hint() string }
			if test.status == 404 && (!errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--enable-v2")) {
				t.Errorf("%v has no hint about --enable-v2", err)
			}
		})
	}
}

var errAny = errors.New("any")

// TestServesV2ChecksEveryEndpoint: one endpoint without the v2 API is an error,
// because Docker may use it.
func TestServesV2ChecksEveryEndpoint(t *testing.T) {
	with := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"action":"get","node":{"dir":true}}`))
	}))
	defer with.Close()
	without := httptest.NewServer(http.NotFoundHandler())
	defer without.Close()
	closed := "http://" + closedAddress(t)
	for _, test := range []struct {
		endpoints []string
		served    bool
	}{
		{[]string{with.URL, closed}, true},
		{[]string{closed, with.URL}, true},
		{[]string{with.URL, without.URL}, false},
		{[]string{closed, without.URL}, false},
	} {
		c, err := Dial(Options{Endpoints: test.endpoints})
		if err != nil {
			t.Fatal(err)
		}
		err = c.ServesV2(t.Context())
		if (err == nil) != test.served || !test.served && !errors.Is(err, ErrNoV2) {
			t.Errorf("ServesV2 with %v = %v, want served %v", test.endpoints, err, test.served)
		}
		c.Close()
	}
}

// silentAddress returns a loopback address that accepts connections and never
// answers.
func silentAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// closedAddress returns a loopback address where nothing listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

package app_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/state"
)

// configServer serves validConfig after it has failed some requests.
type configServer struct {
	failures   int32
	status     int    // of the failures
	retryAfter string // header of the failures
	requests   atomic.Int32
}

func (s *configServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if s.requests.Add(1) > s.failures {
		_, _ = w.Write([]byte(validConfig))
		return
	}
	if s.retryAfter != "" {
		w.Header().Set("Retry-After", s.retryAfter)
	}
	w.WriteHeader(s.status)
}

// RoundTrip serves a request without a network, for tests with a fake clock.
func (s *configServer) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result(), nil
}

// listen starts the server on the network and returns its URL.
func (s *configServer) listen(t *testing.T) string {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func (m *machine) bootWith(url, digest string) {
	m.cmdline = fmt.Sprintf("quiet firstboot.config=%s firstboot.config.sha256=%s", url, digest)
}

// bootURL is a URL for servers that are not on the network.
const bootURL = "http://boot.example/host.yaml"

var validDigest = fmt.Sprintf("%x", sha256.Sum256([]byte(validConfig)))

func TestConfigurationByURLIsFetchedUntilTheServerAnswersAndSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &configServer{failures: 2, status: http.StatusServiceUnavailable}
		m := newMachine(t)
		m.writeFile("/etc/firstboot/config.yaml", "")
		m.bootWith(bootURL, validDigest)
		m.web = server
		m.runs(app.ExitDone, "waiting for the configuration at "+bootURL, "503")
		if n := server.requests.Load(); n != 3 {
			t.Errorf("%d requests", n)
		}
		m.cmdline = "quiet"
		m.is(state.Complete)
	})
}

// A rack that boots at once must not overload the server that it waits for.
func TestNextRequestIsSentAfterRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &configServer{failures: 2, status: http.StatusServiceUnavailable, retryAfter: "120"}
		m := newMachine(t)
		m.bootWith(bootURL, validDigest)
		m.web = server
		ctx, cancel := context.WithTimeoutCause(t.Context(), 119*time.Second, context.Canceled)
		defer cancel()
		m.ctx = ctx
		m.runs(app.ExitInterrupted, "503 Service Unavailable; next attempt in 2m")
		if n := server.requests.Load(); n != 1 {
			t.Errorf("%d requests in 119 s", n)
		}
		m.ctx = t.Context()
		start := time.Now()
		m.runs(app.ExitDone, "503 Service Unavailable; next attempt in 2m")
		if n, took := server.requests.Load(), time.Since(start); n != 3 || took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("%d requests; the last one after %s", n, took)
		}
	})
}

func TestConfigurationByURLIsRejectedByItsDigestOrStatus(t *testing.T) {
	m := newMachine(t)
	m.bootWith((&configServer{}).listen(t), strings.Repeat("0", 64))
	m.runs(app.ExitConfig, "its sha256 is "+validDigest)
	if m.h.Exists(state.EffectivePath) {
		t.Error("it was saved")
	}
	missing := &configServer{failures: 100, status: http.StatusNotFound}
	m.bootWith(missing.listen(t), validDigest)
	m.runs(app.ExitConfig, "the server answered 404")
	if n := missing.requests.Load(); n != 1 {
		t.Errorf("%d requests for a missing file", n)
	}
}

// What a server sends must not make the journal so large that no later run can
// read it.
func TestLongAnswersOfTheConfigurationServerAreTruncated(t *testing.T) {
	long := strings.Repeat("x", 5<<20)
	for name, answer := range map[string]string{
		"status text": "HTTP/1.1 404 " + long + "\r\n\r\n",
		"location":    "HTTP/1.1 302 Found\r\nLocation: " + long + "://host/\r\n\r\n",
		"scheme":      "HTTP/1.1 302 Found\r\nLocation: " + long[:40_000] + "://host/\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.bootWith("http://"+answerAll(t, answer)+"/host.yaml", validDigest)
			ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, context.Canceled)
			defer cancel()
			m.ctx = ctx
			m.run()
			if n := m.out.Len() + m.errs.Len(); n > 10_000 {
				t.Errorf("%d bytes of output: %.200s", n, m.out.String()+m.errs.String())
			}
			m.ctx, m.cmdline = t.Context(), ""
			m.runs(app.ExitDone)
		})
	}
}

// answerAll answers every connection with the same bytes. It returns its address.
func answerAll(t *testing.T, answer string) string {
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
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(answer))
			c.Close()
		}
	}()
	return l.Addr().String()
}

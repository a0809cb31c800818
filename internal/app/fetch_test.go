package app_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/state"
)

// server gives a configuration after it has failed some times.
func server(t *testing.T, fails int32, status int) (url string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= fails {
			w.WriteHeader(status)
			return
		}
		_, _ = w.Write([]byte(validConfig))
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func (m *machine) bootsWith(url, sum string) {
	m.cmdline = fmt.Sprintf("quiet firstboot.config=%s firstboot.config.sha256=%s", url, sum)
}

var sumOfValid = fmt.Sprintf("%x", sha256.Sum256([]byte(validConfig)))

func TestConfigurationByURLIsWaitedForCheckedAndKept(t *testing.T) {
	url, asked := server(t, 2, http.StatusServiceUnavailable)
	m := newMachine(t)
	m.put("/etc/firstboot/config.yaml", "")
	m.bootsWith(url, sumOfValid)
	m.runs(app.ExitDone, "waiting for the configuration at "+url, "503")
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	m.cmdline = "quiet"
	m.is(state.Complete)
}

// TestABusyServerIsLeftAloneForAsLongAsItAsks: a rack that boots at once must
// not keep down the server that it waits for.
func TestABusyServerIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusServiceUnavailable)
		time.AfterFunc(time.Second, cancel) // long after it was told when the next try is
	}))
	t.Cleanup(s.Close)
	m := newMachine(t)
	m.ctx = ctx
	m.bootsWith(s.URL, sumOfValid)
	m.runs(app.ExitInterrupted, "503 Service Unavailable; next try in 2m")
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestWrongConfigurationByURLIsRefused(t *testing.T) {
	url, _ := server(t, 0, 0)
	m := newMachine(t)
	m.bootsWith(url, strings.Repeat("0", 64))
	m.runs(app.ExitConfig, "its sha256 is "+sumOfValid)
	if m.h.Exists(state.EffectivePath) {
		t.Error("it was kept")
	}
	missing, asked := server(t, 100, http.StatusNotFound)
	m.bootsWith(missing, sumOfValid)
	m.runs(app.ExitConfig, "the server answered 404")
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times for what is not there", n)
	}
}

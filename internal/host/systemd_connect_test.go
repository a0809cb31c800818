package host

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// silentSystemd returns a connection to a server that accepts and never answers,
// and the its dials in progress.
func silentSystemd(t *testing.T, limit time.Duration) (s *systemdConn, dialing chan struct{}) {
	socket := filepath.Join(t.TempDir(), "private")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	dialing = make(chan struct{}, 10)
	s = newSystemdConn(func(string, string) {})
	s.limit = limit
	s.dial = func(ctx context.Context) (*dbus.Conn, error) {
		dialing <- struct{}{}
		defer func() { <-dialing }()
		return dbus.NewConnection(func() (*godbus.Conn, error) {
			conn, err := godbus.Dial("unix:path="+socket, godbus.WithContext(ctx))
			if err != nil {
				return nil, err
			}
			return conn, conn.Auth([]godbus.Auth{godbus.AuthExternal("0")})
		})
	}
	return s, dialing
}

// TestSilentSystemdTimesOut: a call whose context has no limit ends at the limit
// of the connection, and its socket is closed.
func TestSilentSystemdTimesOut(t *testing.T) {
	s, dialing := silentSystemd(t, 50*time.Millisecond)
	began := time.Now()
	_, err := s.Unit(context.Background(), "docker.service")
	if err == nil || !strings.Contains(err.Error(), "cannot connect to systemd: timed out after 50ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > systemdTimeout/2 {
		t.Errorf("took %v", took)
	}
	if len(dialing) != 0 {
		t.Error("a goroutine still waits for systemd")
	}
}

// TestConnectionToSystemdIsWaitedForWithinTheLimitOfEachCall: a second call does
// not wait longer than its own limit for a connection that the first one makes.
func TestConnectionToSystemdIsWaitedForWithinTheLimitOfEachCall(t *testing.T) {
	s, dialing := silentSystemd(t, time.Minute)
	first, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { _, err := s.Unit(first, "docker.service"); ended <- err }()
	for len(dialing) == 0 {
		runtime.Gosched()
	}
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if _, err := s.Unit(short, "docker.service"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second call: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("first call: %v", err)
	}
}

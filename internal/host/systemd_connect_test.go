package host

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// silentSystemd returns a connection to a server that accepts and never answers,
// and its dials in progress.
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
		return dialPrivate(socket)(ctx)
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

// answeringSystemd returns a connection to a server that answers each call, and the
// number of its open connections and of all.
func answeringSystemd(t *testing.T) (s *systemdConn, open, all *atomic.Int32) {
	socket, open, all := serve(t, func(member string) []any { return systemdAnswers[member] })
	s = newSystemdConn(func(string, string) {})
	s.dial = dialPrivate(socket)
	return s, open, all
}

// systemdAnswers are the bodies of systemd's and the bus's answers.
var systemdAnswers = map[string][]any{
	"GetAll": {map[string]godbus.Variant{"ActiveState": godbus.MakeVariant("active")}},
	"Get":    {godbus.MakeVariant("success")},
	"Hello":  {":1.1"}, "NameHasOwner": {true},
	"Reload": {}, "AddMatch": {},
}

// serve serves a socket. It closes a connection that calls a member without an answer.
func serve(t *testing.T, answer func(member string) []any) (socket string, open, all *atomic.Int32) {
	socket = filepath.Join(t.TempDir(), "private")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	open, all = new(atomic.Int32), new(atomic.Int32)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Add(1)
			all.Add(1)
			go func() {
				defer open.Add(-1)
				defer conn.Close()
				answerCalls(conn, answer)
			}()
		}
	}()
	return socket, open, all
}

// wantClosed waits until no connection is open.
func wantClosed(t *testing.T, open *atomic.Int32) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); open.Load() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", open.Load())
		}
	}
}

// answerCalls speaks D-Bus's authentication and then answers calls until the client
// closes the connection.
func answerCalls(conn net.Conn, answer func(member string) []any) {
	in := bufio.NewReader(conn)
	for line := ""; line != "BEGIN"; {
		text, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.Trim(text, "\x00\r\n")
		answer := map[string]string{"AUTH": "REJECTED EXTERNAL", "NEGOTIATE_UNIX_FD": "ERROR", "BEGIN": ""}
		reply, known := answer[line]
		if !known {
			reply = "OK 1234deadbeef"
		}
		if reply != "" {
			fmt.Fprintf(conn, "%s\r\n", reply)
		}
	}
	for {
		call, err := godbus.DecodeMessage(in)
		if err != nil {
			return
		}
		member, _ := call.Headers[godbus.FieldMember].Value().(string)
		body := answer(member)
		if body == nil {
			return
		}
		reply := &godbus.Message{Type: godbus.TypeMethodReply, Headers: map[godbus.HeaderField]godbus.Variant{
			godbus.FieldReplySerial: godbus.MakeVariant(call.Serial()),
		}, Body: body}
		if len(body) > 0 {
			reply.Headers[godbus.FieldSignature] = godbus.MakeVariant(godbus.SignatureOf(body...))
		}
		if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
			return
		}
	}
}

// TestConnectionToSystemdIsSharedAndThenClosed: on its own socket, systemd sends signals
// of all units to each open connection. A reload, after which they are many, closes it at once, but
// not while another call uses it.
func TestConnectionToSystemdIsSharedAndThenClosed(t *testing.T) {
	s, open, all := answeringSystemd(t)
	var calls sync.WaitGroup
	for i := range 200 {
		calls.Go(func() {
			if i%20 == 0 {
				if err := s.DaemonReload(t.Context()); err != nil {
					t.Error(err)
				}
				return
			}
			unit, err := s.Unit(t.Context(), "docker.service")
			if err != nil || unit.Active != "active" || unit.Result != "success" {
				t.Errorf("%+v, %v", unit, err)
			}
		})
	}
	calls.Wait()
	if n := all.Load(); n > 20 { // one for each reload, at most, and one after it
		t.Errorf("%d connections for 200 calls", n)
	}
	wantClosed(t, open)
	if _, err := s.Unit(t.Context(), "docker.service"); err != nil {
		t.Errorf("after the connection was closed: %v", err)
	}
}

// TestBusIsPreferred, unless it fails or systemd is not on it. One that does not answer
// is tried once.
func TestBusIsPreferred(t *testing.T) {
	answering, _, _ := answeringSystemd(t)
	silent, dialing := silentSystemd(t, time.Minute)
	broken := func(context.Context) (*dbus.Conn, error) { return nil, errors.New("no bus") }
	unused := func(context.Context) (*dbus.Conn, error) {
		t.Error("the other one was dialed")
		return nil, errors.New("no")
	}
	dials := 0
	counted := func(ctx context.Context) (*dbus.Conn, error) { dials++; return silent.dial(ctx) }
	for _, c := range []struct {
		name         string
		bus, private dialer
		err          string
	}{
		{"the bus answers", answering.dial, unused, ""},
		{"no bus", broken, answering.dial, ""},
		{"neither", broken, broken, "no bus; no bus"},
	} {
		conn, err := preferBus(time.Minute, c.bus, c.private)(t.Context())
		if c.err == "" && (err != nil || !conn.Connected()) || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	dial := preferBus(20*time.Millisecond, counted, answering.dial)
	for range 3 {
		if conn, err := dial(t.Context()); err != nil || !conn.Connected() {
			t.Errorf("a silent bus: %v", err)
		}
	}
	if dials != 1 || len(dialing) != 0 {
		t.Errorf("the silent bus was dialed %d times, and %d dials did not end", dials, len(dialing))
	}
}

// TestSilentBusIsTriedOnce also by a caller whose own limit ends first.
func TestSilentBusIsTriedOnce(t *testing.T) {
	answering, _, _ := answeringSystemd(t)
	silent, _ := silentSystemd(t, time.Minute)
	dials := 0
	dial := preferBus(time.Minute, func(ctx context.Context) (*dbus.Conn, error) { dials++; return silent.dial(ctx) }, answering.dial)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := dial(short); err == nil {
		t.Error("a silent bus answered")
	}
	if conn, err := dial(t.Context()); err != nil || !conn.Connected() {
		t.Errorf("the next caller: %v", err)
	}
	if dials != 1 {
		t.Errorf("the silent bus was dialed %d times", dials)
	}
}

// TestSystemdMustBeOnTheBus: early in the boot it is not, and D-Bus would try to start it.
func TestSystemdMustBeOnTheBus(t *testing.T) {
	for _, onBus := range []bool{true, false} {
		socket, open, _ := serve(t, func(member string) []any {
			if member == "NameHasOwner" {
				return []any{onBus}
			}
			return systemdAnswers[member]
		})
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
		conn, err := dialBus(t.Context())
		if err == nil {
			conn.Close()
		}
		if got := fmt.Sprint(err); onBus != (err == nil) || !onBus && got != "systemd is not on the system bus" {
			t.Errorf("systemd on the bus: %v, got %s", onBus, got)
		}
		wantClosed(t, open)
	}
}

// TestQueryIsRepeatedAfterALostConnection: D-Bus may be restarted. What changes
// something is not repeated.
func TestQueryIsRepeatedAfterALostConnection(t *testing.T) {
	calls := map[string]int{}
	var mu sync.Mutex
	socket, _, _ := serve(t, func(member string) []any {
		mu.Lock()
		defer mu.Unlock()
		if calls[member]++; calls[member] == 1 && member != "AddMatch" { // connecting is not repeated
			return nil
		}
		return systemdAnswers[member]
	})
	s := newSystemdConn(func(string, string) {})
	s.dial = dialPrivate(socket)
	if unit, err := s.Unit(t.Context(), "docker.target"); err != nil || unit.Active != "active" {
		t.Errorf("got %+v, %v", unit, err)
	}
	if err := s.DaemonReload(t.Context()); !isLost(err) {
		t.Errorf("a reload: %v", err)
	}
}

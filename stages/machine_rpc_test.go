package stages_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/rpc"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// The fake system keeps running when a test kills firstboot, as systemd and
// Docker do. So firstboot reaches it through a socket, even from another process.

// fakesSocket is the socket of the fake system, below the machine's root.
const fakesSocket = "/run/fakes.sock"

// FakeService serves the fake system. net/rpc requires it to be exported.
type FakeService struct{ w *fakeSystem }

// CommandResult is the result of a command.
type CommandResult struct {
	Stdout, Stderr string
	Exit           int // -1: there is no such program; hangs: it never exits
}

// hangs is the Exit of a command that runs until its time limit.
const hangs = -2

func (s FakeService) Run(c host.Command, r *CommandResult) error {
	*r = s.w.runCommand(c)
	return nil
}

func (s FakeService) Unit(name string, r *host.UnitState) error {
	state, err := s.w.systemd.state(name)
	*r = state
	return err
}

func (s FakeService) Job(words []string, _ *struct{}) error {
	return s.w.systemd.job(words[0], words[1])
}

func (s FakeService) Property(words []string, r *string) error {
	*r = s.w.systemd.property(words[0], words[2])
	return nil
}

func (s FakeService) Addresses(_ struct{}, r *[]host.Address) error {
	*r = s.w.net.addresses
	return nil
}

func (s FakeService) Routes(_ struct{}, r *[]host.Route) error {
	*r = s.w.net.routes
	return nil
}

func (s FakeService) RouteTo(to netip.Addr, r *host.Route) error {
	*r = s.w.net.routeTo(to)
	return nil
}

func (s FakeService) SourceAddress(to netip.Addr, r *netip.Addr) error {
	from, err := s.w.net.sourceTo(to)
	*r = from
	return err
}

func (s FakeService) Resolve(name string, r *[]netip.Addr) error {
	found, err := s.w.net.resolve(name)
	*r = found
	return err
}

func (s FakeService) Listening(at netip.AddrPort, r *bool) error {
	*r = s.w.net.listening[at]
	return nil
}

func (s FakeService) LocalSocket(port uint16, r *string) error {
	*r = s.w.file(fmt.Sprintf("/run/port%d", port))
	return nil
}

func (s FakeService) RemoveVeth(name string, _ *struct{}) error {
	return os.RemoveAll(s.w.file("/sys/class/net/" + name))
}

func (s FakeService) Ping(to netip.Addr, _ *struct{}) error { return s.w.docker.ping(to) }

func (s FakeService) Free(path string, r *uint64) error {
	*r = s.w.net.freeAt(path)
	return nil
}

// serveFakes serves the fake system until the test ends.
func serveFakes(t testing.TB, w *fakeSystem) {
	t.Helper()
	server := rpc.NewServer()
	if err := server.Register(FakeService{w}); err != nil {
		t.Fatal(err)
	}
	l := listen(t, filepath.Join(w.root, fakesSocket))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go server.ServeConn(conn)
		}
	}()
}

func listen(t testing.TB, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// fakeClient connects a host.Host to the fake system.
type fakeClient struct {
	client *rpc.Client
	step   func(op, target string)
}

// systemOptions returns the options of a host.Host that uses the fake system
// below root.
func systemOptions(t testing.TB, root string, step func(op, target string)) []host.Option {
	t.Helper()
	client, err := rpc.Dial("unix", filepath.Join(root, fakesSocket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return clientOptions(fakeClient{client, step})
}

func clientOptions(s fakeClient) []host.Option {
	return []host.Option{
		host.WithStep(s.step), host.WithExecutor(s), host.WithSystemd(s), host.WithNetwork(s),
		host.WithFreeSpace(func(path string) (uint64, error) {
			return call[uint64](context.Background(), s, "Free", path)
		}),
	}
}

// call calls a method of FakeService and waits no longer than ctx. A reply that
// arrives later is discarded.
func call[T any](ctx context.Context, s fakeClient, what string, args any) (T, error) {
	reply := new(T)
	call := s.client.Go("FakeService."+what, args, reply, nil)
	select {
	case <-ctx.Done():
		return *new(T), context.Cause(ctx)
	case done := <-call.Done:
		return *reply, done.Error
	}
}

func (s fakeClient) Run(ctx context.Context, c host.Command) (host.Output, error) {
	if c.Timeout <= 0 {
		return host.Output{}, &host.CommandError{Command: c.Name, ExitCode: -1, Err: errors.New("no timeout is set")}
	}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ran, err := call[CommandResult](limited, s, "Run", c)
	out := host.Output{Stdout: []byte(ran.Stdout), Stderr: []byte(ran.Stderr)}
	failed := &host.CommandError{Command: c.String(), ExitCode: ran.Exit, Stderr: strings.TrimSpace(ran.Stderr + ran.Stdout), Err: errors.New("exit status")}
	switch {
	case ctx.Err() != nil:
		failed.ExitCode, failed.Err = -1, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded), ran.Exit == hangs:
		failed.ExitCode, failed.TimedOut, failed.Err = -1, c.Timeout, context.DeadlineExceeded
	case err != nil:
		failed.ExitCode, failed.Err = -1, err
	case ran.Exit == 0:
		return out, nil
	}
	return out, failed
}

func (s fakeClient) Unit(ctx context.Context, name string) (host.UnitState, error) {
	return call[host.UnitState](ctx, s, "Unit", name)
}

// job records a step and starts a job of systemd.
func (s fakeClient) job(ctx context.Context, verb, name string) error {
	s.step("unit", strings.TrimSpace(verb+" "+name))
	_, err := call[struct{}](ctx, s, "Job", []string{verb, name})
	return err
}

func (s fakeClient) Start(ctx context.Context, name string) error { return s.job(ctx, "start", name) }
func (s fakeClient) Stop(ctx context.Context, name string) error  { return s.job(ctx, "stop", name) }
func (s fakeClient) Restart(ctx context.Context, name string) error {
	return s.job(ctx, "restart", name)
}
func (s fakeClient) Reload(ctx context.Context, name string) error { return s.job(ctx, "reload", name) }
func (s fakeClient) DaemonReload(ctx context.Context) error        { return s.job(ctx, "daemon-reload", "") }

func (s fakeClient) Enable(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := s.job(ctx, "enable", name); err != nil {
			return err
		}
	}
	return nil
}

func (s fakeClient) Disable(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := s.job(ctx, "disable", name); err != nil {
			return err
		}
	}
	return nil
}

func (s fakeClient) Property(ctx context.Context, unit, kind, property string) (any, error) {
	return call[string](ctx, s, "Property", []string{unit, kind, property})
}

// query calls a method for a caller without a context.
func query[T any](s fakeClient, what string, args any) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return call[T](ctx, s, what, args)
}

func (s fakeClient) Addresses() ([]host.Address, error) {
	return query[[]host.Address](s, "Addresses", struct{}{})
}

func (s fakeClient) Routes() ([]host.Route, error) {
	return query[[]host.Route](s, "Routes", struct{}{})
}

func (s fakeClient) RouteTo(to netip.Addr) (host.Route, error) {
	return query[host.Route](s, "RouteTo", to)
}

func (s fakeClient) SourceAddress(to netip.Addr) (netip.Addr, error) {
	return query[netip.Addr](s, "SourceAddress", to)
}

func (s fakeClient) Listening(_ context.Context, at netip.AddrPort) bool {
	listening, err := query[bool](s, "Listening", at)
	return err == nil && listening
}

func (s fakeClient) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	return call[[]netip.Addr](ctx, s, "Resolve", name)
}

// DialLocal connects to the socket that stands in for the port.
func (s fakeClient) DialLocal(ctx context.Context, port uint16) (net.Conn, error) {
	path, err := call[string](ctx, s, "LocalSocket", port)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, "unix", path)
}

func (s fakeClient) RemoveVeth(name string) error {
	s.step("link", "remove "+name)
	_, err := query[struct{}](s, "RemoveVeth", name)
	return err
}

func (s fakeClient) Ping(ctx context.Context, to netip.Addr) error {
	_, err := call[struct{}](ctx, s, "Ping", to)
	return err
}

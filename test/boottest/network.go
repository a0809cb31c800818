package boottest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// Network is a network namespace with loopback only.
type Network struct {
	name string
	t    testing.TB
}

func newNetwork(t testing.TB) *Network {
	t.Helper()
	n := &Network{name: fmt.Sprintf("fbt-%08x", rand.Uint32()), t: t}
	run(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { run(t, "ip", "netns", "delete", n.name) })
	run(t, "ip", "-n", n.name, "link", "set", "lo", "up")
	return n
}

func (n *Network) path() string { return "/run/netns/" + n.name }

// Serve starts an HTTP server in the network, on all its addresses: 127.0.0.1 and those
// that the test has added to its loopback interface.
func (n *Network) Serve(port int, h http.Handler) {
	n.t.Helper()
	listener, err := n.listen(port)
	if err != nil {
		n.t.Fatalf("cannot listen: %v", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	n.t.Cleanup(func() { _ = server.Close() })
}

// listen opens a socket on a thread that has entered the namespace. A socket stays in
// the namespace where it was opened.
func (n *Network) listen(port int) (net.Listener, error) {
	runtime.LockOSThread()
	original, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer func() { _ = original.Close() }()
	target, err := netns.GetFromName(n.name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = target.Close() }()
	if err := netns.Set(target); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err := netns.Set(original); err != nil {
		return nil, err // the thread stays locked and exits with its goroutine
	}
	runtime.UnlockOSThread()
	return listener, err
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// Command returns a command of this machine that runs in the network.
func (n *Network) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.name, name}, args...)...)
}

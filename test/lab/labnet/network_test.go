//go:build lab

package labnet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

// newNetwork creates a network for a test.
func newNetwork(t *testing.T, prefix string) *Network {
	t.Helper()
	group := procs.NewGroup(t.TempDir(), false)
	t.Cleanup(func() {
		if err := group.Close(); err != nil {
			t.Error(err)
		}
	})
	n, err := New(group, fmt.Sprintf("fbtest-%d-%s", os.Getpid(), netip.MustParsePrefix(prefix).Addr()), netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestNetworkIsIsolated(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if conn, err := n.Dial(ctx, "tcp", outside.Addr().String()); err == nil {
		conn.Close()
		t.Error("this machine's loopback is reachable from the network")
	}
	if conn, err := n.Dial(ctx, "tcp", "192.0.2.1:80"); err == nil || !strings.Contains(err.Error(), "unreachable") {
		if err == nil {
			conn.Close()
		}
		t.Errorf("an external address: %v, want unreachable", err)
	}
}

func TestServerIsReachableInItsNetworkOnly(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	url, stop, err := n.Serve(8080, http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		io.WriteString(out, "hello")
	}))
	if err != nil {
		t.Fatal(err)
	}
	client := n.Client()
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); string(text) != "hello" {
		t.Errorf("the server answers %q", text)
	}
	other := newNetwork(t, "10.124.0.0/24").Client()
	defer other.CloseIdleConnections()
	if response, err := other.Get(url); err == nil {
		response.Body.Close()
		t.Error("the server is reachable from another network")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestNetworkInUseIsNotReplaced(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	group := procs.NewGroup(t.TempDir(), false)
	defer group.Close()
	if _, err := New(group, n.Namespace, n.Prefix); err == nil || !strings.Contains(err.Error(), n.Namespace) {
		t.Fatalf("a second network of the same name: %v", err)
	}
	if _, err := os.Stat("/run/netns/" + n.Namespace); err != nil {
		t.Errorf("the first network's name is missing: %v", err)
	}
}

func TestEtcdKeepsItsDataAfterAStop(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	e := n.Etcd(t.TempDir(), EtcdOptions{})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := n.Client()
	defer client.CloseIdleConnections()
	put, err := http.NewRequestWithContext(t.Context(), http.MethodPut, e.Endpoint+"/v2/keys/seen?value=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(put)
	if err != nil || response.StatusCode != http.StatusCreated {
		t.Fatalf("the v2 API: %v, %v", response, err)
	}
	response.Body.Close()
	if err := e.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context(), client, e.Endpoint+"/health"); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("while frozen: %v, want a timeout", err)
	}
	if err := e.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context(), client, e.Endpoint+"/health"); err == nil {
		t.Error("etcd answers after Stop")
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context(), client, e.Endpoint+"/v2/keys/seen"); err != nil {
		t.Errorf("the data after a restart: %v", err)
	}
}

func TestVethConnectsANamespace(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	process, err := n.group.Start("host", cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Veth("veth1", process.PID, n.Address(11)); err != nil {
		t.Fatal(err)
	}
	hasRoute := func(target string) error {
		out, err := exec.Command("nsenter", "-t", strconv.Itoa(process.PID), "-n", "ip", "route", "get", target).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if !strings.Contains(string(out), "via "+n.Gateway().String()) {
			return fmt.Errorf("the route is %s", out)
		}
		return nil
	}
	if err := hasRoute("192.0.2.1"); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if conn, err := n.Dial(ctx, "tcp", n.Address(11).String()+":80"); err == nil || !strings.Contains(err.Error(), "refused") {
		if err == nil {
			conn.Close()
		}
		t.Errorf("a closed port of the host: %v, want refused", err)
	}
}

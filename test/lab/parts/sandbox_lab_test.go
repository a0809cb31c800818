//go:build lab

package parts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inSandbox passes the parts to the tests' process in the sandbox. The parent
// process builds them, because the sandbox has no network.
const inSandbox = "PARTS_TEST_SANDBOX"

// TestMain builds the parts, then executes itself in new network, mount and PID
// namespaces. Interfaces, mounts and processes of the tests disappear when it ends.
func TestMain(m *testing.M) {
	if os.Getenv(inSandbox) != "" {
		os.Exit(runInside(m))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p, err := Build(ctx, Options{Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }})
	if err == nil {
		err = enterSandbox(ctx, p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runInside prepares the sandbox's mounts, then runs the tests.
func runInside(m *testing.M) int {
	out, err := trySh(context.Background(), `mount --make-rprivate /
mount -t proc proc /proc
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns
ip link set lo up`)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot create the sandbox: %v: %s\n", err, out)
		return 1
	}
	return m.Run()
}

func enterSandbox(ctx context.Context, p Parts) error {
	built, err := json.Marshal(p)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), inSandbox+"="+string(built))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tests in the sandbox (they need root): %w", err)
	}
	return nil
}

// builtParts returns the parts under test.
func builtParts(t *testing.T) Parts {
	t.Helper()
	var p Parts
	if err := json.Unmarshal([]byte(os.Getenv(inSandbox)), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// sh runs a shell script that must succeed, and returns its output.
func sh(t *testing.T, script string, args ...any) string {
	t.Helper()
	out, err := trySh(t.Context(), script, args...)
	if err != nil {
		t.Fatalf("%s\n%v\n%s", fmt.Sprintf(script, args...), err, out)
	}
	return out
}

func trySh(ctx context.Context, script string, args ...any) (string, error) {
	out, err := exec.CommandContext(ctx, "sh", "-euc", fmt.Sprintf(script, args...)).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// start starts a program that runs until the test ends, and returns its PID. Its
// output is shown if the test fails.
func start(t *testing.T, name string, env []string, args ...string) int {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("output of %s:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return cmd.Process.Pid
}

// eventually calls check at intervals until it succeeds.
func eventually(t *testing.T, timeout time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out after %s waiting for %s: %v", timeout, what, err)
		}
		<-tick.C
	}
}

const etcdURL = "http://10.99.0.254:2379"

// startCluster creates the network of the hosts, with an etcd.
func startCluster(t *testing.T) {
	t.Helper()
	sh(t, "ip link add lab type bridge && ip addr add 10.99.0.254/24 dev lab && ip link set lab up")
	t.Cleanup(func() { trySh(context.Background(), "ip -all netns delete && ip link del lab") })
	start(t, "etcd", os.Environ(), "etcd", "--data-dir", t.TempDir(), "--enable-v2",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL, "--listen-peer-urls", "http://127.0.0.1:0")
	waitHealthy(t, "etcd", etcdURL)
}

// waitHealthy waits until an etcd answers at this URL.
func waitHealthy(t *testing.T, name, url string) {
	t.Helper()
	eventually(t, time.Minute, name, func() error {
		answer, err := http.Get(url + "/health")
		if err == nil {
			answer.Body.Close()
		}
		return err
	})
}

// runCalicoctl runs the real calicoctl with this input.
func runCalicoctl(t *testing.T, input string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, builtParts(t).Calicoctl, args...)
	cmd.Env = append(os.Environ(), "DATASTORE_TYPE=etcdv3", "ETCD_ENDPOINTS="+etcdURL)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("calicoctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func createPool(t *testing.T, name, cidr string) {
	t.Helper()
	runCalicoctl(t, fmt.Sprintf(`{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: %s},
spec: {cidr: %s, natOutgoing: true, ipipMode: Never, vxlanMode: Never, blockSize: 26, nodeSelector: all()}}`, name, cidr), "create", "-f", "-")
}

// addHost creates a network namespace for a host and connects it to the network. At
// the end of the test it kills all processes in it: runit's services outlive their
// parent.
func addHost(t *testing.T, name, address string) {
	t.Helper()
	t.Cleanup(func() {
		trySh(context.Background(), `ip netns pids %[1]s | xargs -r kill -9; ip link del v%[1]s`, name)
	})
	sh(t, `ip netns add %[1]s
ip link add v%[1]s type veth peer name eth0 netns %[1]s
ip link set v%[1]s master lab up
ip -n %[1]s link set lo up
ip -n %[1]s addr add %[2]s/24 dev eth0
ip -n %[1]s link set eth0 up
ip -n %[1]s route add default via 10.99.0.254
ip netns exec %[1]s sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'`, name, address)
}

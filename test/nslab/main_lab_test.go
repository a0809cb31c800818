//go:build lab

package nslab

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab/parts"
)

// programs are what the hosts of all tests run.
var programs *Programs

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	programs, err = Build(ctx, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := programs.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// open opens a lab that ends with the test.
func open(t *testing.T, version parts.EtcdVersion) *Lab {
	t.Helper()
	l, err := programs.Open(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range l.Hosts {
				t.Log(h.Logs())
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// step runs a step of a test, and logs how long it took.
func step(t *testing.T, name string, do func() error) {
	t.Helper()
	start := time.Now()
	if err := do(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Logf("%6s  %s", time.Since(start).Round(100*time.Millisecond), name)
}

// boot boots all hosts and makes them members of the cluster.
func boot(t *testing.T, l *Lab) {
	t.Helper()
	step(t, "boot", func() error { return l.Each(func(h *Host) error { return h.Boot(t.Context()) }) })
	step(t, "join", func() error { return l.Each(func(h *Host) error { return h.Join(t.Context()) }) })
}

// container returns the name of a host's container. On a global network it must be
// unique in the cluster.
func container(h *Host) string { return "c-" + h.Name }

func runContainers(t *testing.T, l *Lab) {
	t.Helper()
	step(t, "containers", func() error {
		return l.Each(func(h *Host) error { return h.RunContainer(t.Context(), container(h)) })
	})
}

// pingAll pings from every host's container to that of every other host.
func pingAll(t *testing.T, l *Lab) {
	t.Helper()
	step(t, "pings between all hosts", func() error {
		return l.Each(func(from *Host) error {
			for _, to := range l.Hosts {
				if from == to {
					continue
				}
				if err := from.Ping(t.Context(), container(from), to, container(to)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func TestGlobalNetworkWithoutTheAdapter(t *testing.T) {
	t.Parallel()
	l := open(t, parts.Etcd34)
	l.AddHost(parts.Docker20, Global)
	l.AddHost(parts.Docker20, Global)
	boot(t, l)
	createNetworks(t, l)
	runContainers(t, l)
	pingAll(t, l)
}

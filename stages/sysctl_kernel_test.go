package stages_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
)

// TestSysctlOnTheRealKernel sets keys of a network namespace of its own and reads
// them back. The kernel prints most of them differently from what was written.
func TestSysctlOnTheRealKernel(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Preflight.Ignore = []string{"kernel-modules"}
	keys := map[string]string{
		"net.ipv4.ip_forward":                           "0x1",
		"net.ipv4.conf.all.accept_redirects":            "1", // reset by ip_forward
		"net.ipv4.conf.all.rp_filter":                   "02",
		"net.ipv4.ip_local_reserved_ports":              "30000-32767,8080,8081",
		"net.ipv4.tcp_fin_timeout":                      "055",
		"net.ipv4.tcp_syncookies":                       "0x1",
		"net.ipv4.ping_group_range":                     "0 2147483647",
		"net.ipv4.neigh.default.base_reachable_time_ms": "30001",
		"net.core.somaxconn":                            "0010000",
		"net.ipv4.route.flush":                          "1", // write-only
	}
	c.Sysctl = keys
	c.Docker.Network = config.NetworkGlobal // auto would query systemd
	underRealKernel(t, func(h *host.Host) {
		maps.DeleteFunc(keys, func(key, _ string) bool { _, err := h.SysctlMode(key); return err != nil }) // not in a namespace of an old kernel
		s, _ := engine.Find(stages.All(&stages.Env{Host: h, Config: c, Notes: &notes{}, Store: artifact.NewStore(artifact.Options{})}), "sysctl")
		if f, err := s.Check(t.Context()); err != nil || f.OK() {
			t.Errorf("before: %v, %v", f, err)
		}
		if err := s.Apply(t.Context(), func(string, int64, int64) {}); err != nil {
			t.Error(err)
		}
		f, err := s.Check(t.Context())
		if err != nil || !f.OK() {
			t.Errorf("after: %v, %v", f.Differences, err)
		}
		if !slices.ContainsFunc(f.Warnings, func(w string) bool { return strings.HasPrefix(w, "net.ipv4.route.flush: cannot be read") }) {
			t.Errorf("no warning of the write-only key: %q", f.Warnings)
		}
		if got, err := h.Sysctl("net.ipv4.tcp_fin_timeout"); err != nil || got != "45" {
			t.Errorf("tcp_fin_timeout is %s, %v", got, err)
		}
	})
}

// underRealKernel calls test with a root directory that has the real /proc, on a
// thread with its own network namespace. Commands fail, so no module is loaded.
func underRealKernel(t *testing.T, test func(*host.Host)) {
	t.Helper()
	root := t.TempDir()
	proc := filepath.Join(root, "proc")
	if err := os.Mkdir(proc, 0o755); err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	go func() {
		defer close(refused)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, and its namespaces with it
		err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("/proc", proc, "", unix.MS_BIND|unix.MS_REC, "")
		}
		if err != nil {
			refused <- err
			return
		}
		test(host.New(root, host.WithExecutor(noCommands{})))
	}()
	if err := <-refused; err != nil {
		t.Skipf("cannot create namespaces: %v", err)
	}
}

// noCommands fails every command.
type noCommands struct{}

func (noCommands) Run(context.Context, host.Command) (host.Output, error) {
	return host.Output{}, errors.New("no commands in this test")
}

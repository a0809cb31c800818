// Package boottest boots a Debian root directory with systemd as PID 1 in a container.
// The container has its own network namespace with loopback only. Use it to test a
// boot that does not need its own kernel. It needs root.
package boottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/cgroup"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/program"
	"github.com/projecteru2/firstboot/test/rootfs"
)

// Limits on the time until a booting machine answers, and until it has stopped. A boot
// takes a second or two, with cloud-init five.
const (
	bootTimeout = 60 * time.Second
	stopTimeout = 30 * time.Second
)

// Machine is a root directory and, while it is booted, its processes.
type Machine struct {
	Root string // root directory; may be changed while the machine is not booted
	Net  *Network

	t       testing.TB
	args    []string
	console *lockedBuffer
	group   cgroup.Group
	process *exec.Cmd
	ended   <-chan struct{}
	leader  int // PID of its init process in our PID namespace
}

// New returns a machine of Debian 12 with systemd and the packages. args are added to
// the arguments of systemd-nspawn. The machine's files are an overlay over a root
// directory that is built once and cached.
func New(t testing.TB, packages []string, args ...string) *Machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("systemd-nspawn needs root")
	}
	m := &Machine{t: t, args: args, Net: newNetwork(t), console: &lockedBuffer{}}
	base, err := rootfs.Debian(t.Context(), cache.Open(t.Logf), packages...)
	if err != nil {
		t.Fatal(err)
	}
	m.Root = overlay(t, base)
	t.Cleanup(func() {
		m.Stop()
		if t.Failed() {
			t.Logf("console:\n%s", m.Console())
		}
	})
	return m
}

// overlay mounts a writable overlay over a root directory and returns its path.
func overlay(t testing.TB, lower string) string {
	t.Helper()
	top := t.TempDir()
	dirs := map[string]string{}
	for _, name := range []string{"upper", "work", "root"} {
		dirs[name] = filepath.Join(top, name)
		if err := os.Mkdir(dirs[name], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, dirs["upper"], dirs["work"])
	if err := unix.Mount("overlay", dirs["root"], "overlay", 0, options); err != nil {
		t.Fatalf("cannot mount the machine's files: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dirs["root"], 0); err != nil {
			t.Errorf("cannot unmount the machine's files: %v", err)
		}
	})
	return dirs["root"]
}

// WriteFile writes a file of the machine and makes its directories.
func (m *Machine) WriteFile(path, text string, mode os.FileMode) {
	m.t.Helper()
	full := filepath.Join(m.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(full, mode); err != nil {
		m.t.Fatal(err)
	}
}

// Boot boots the machine and waits until it can run commands.
func (m *Machine) Boot() {
	m.t.Helper()
	var err error
	if m.group, err = cgroup.New(m.Net.name); err != nil {
		m.t.Fatal(err)
	}
	args := append([]string{"-b", "--quiet", "--register=no", "--keep-unit", "--machine=" + m.Net.name, "--directory=" + m.Root,
		"--network-namespace-path=" + m.Net.path(), "--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off"}, m.args...)
	m.process = m.group.Command("systemd-nspawn", args...)
	m.console.reset()
	m.process.Stdout, m.process.Stderr = m.console, m.console
	ended, err := program.Start(m.process, unix.SIGTERM) // even if the test is killed
	if err != nil {
		m.removeGroup()
		m.t.Fatalf("cannot boot: %v", err)
	}
	m.ended = ended
	deadline := time.Now().Add(bootTimeout)
	for {
		if m.leader = child(m.process.Process.Pid); m.leader > 0 {
			if out, err := m.Output("systemctl", "show", "--property=Version"); err == nil && strings.Contains(out, "Version=") {
				return
			}
		}
		select {
		case <-m.ended:
			m.t.Fatalf("the machine stopped during the boot:\n%s", m.Console())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the machine does not answer: timed out after %s:\n%s", bootTimeout, m.Console())
		}
	}
}

// child returns the first child of a process, or 0 if it has none.
func child(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}

// Output runs a command on the machine and returns its stdout and stderr. It times out
// after two minutes.
func (m *Machine) Output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	enter := append([]string{"-t", strconv.Itoa(m.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", name}, args...)
	c := exec.CommandContext(ctx, "nsenter", enter...)
	// The command is nsenter's child and keeps the pipe open, so kill the group.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	out, err := c.CombinedOutput()
	return string(out), err
}

// Run runs a command that must succeed and returns its output.
func (m *Machine) Run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.Output(name, args...)
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// ExitCode runs a command and returns its exit code and output.
func (m *Machine) ExitCode(name string, args ...string) (int, string) {
	m.t.Helper()
	out, err := m.Output(name, args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("%s: %v", name, err)
	}
	if exit != nil {
		return exit.ExitCode(), out
	}
	return 0, out
}

// Stop powers the machine off, and kills it after a timeout.
func (m *Machine) Stop() {
	if m.process == nil {
		return
	}
	// SIGTERM makes systemd-nspawn power the machine off.
	_ = m.process.Process.Signal(unix.SIGTERM)
	select {
	case <-m.ended:
	case <-time.After(stopTimeout):
		m.kill()
	}
	m.removeGroup()
}

// CutPower kills the machine, like a power cut.
func (m *Machine) CutPower() {
	m.kill()
	m.removeGroup()
}

func (m *Machine) removeGroup() {
	m.t.Helper()
	if err := m.group.Remove(); err != nil {
		m.t.Errorf("cannot remove the machine's control group: %v", err)
	}
	m.process, m.group = nil, nil
}

func (m *Machine) kill() {
	if m.leader > 0 {
		_ = unix.Kill(m.leader, unix.SIGKILL)
	}
	_ = m.process.Process.Kill()
	<-m.ended
}

// Console returns the console output since the last boot.
func (m *Machine) Console() string { return m.console.String() }

// lockedBuffer is a buffer for concurrent reads and writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

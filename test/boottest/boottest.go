// Package boottest boots a Debian root folder with systemd as PID 1, in a network
// namespace of its own with nothing but loopback: for tests of what happens in
// a boot where no kernel of its own is needed. It needs root.
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
	"github.com/projecteru2/firstboot/test/rootfs"
)

// bootTime bounds a boot until the machine answers, stopTime its end: a boot
// takes a second or two, with cloud-init five.
const (
	bootTime = 60 * time.Second
	stopTime = 30 * time.Second
)

// Machine is a root folder, and while it is booted its processes.
type Machine struct {
	Root string // of its files; may be changed while it is not booted
	Net  *Network

	t       testing.TB
	args    []string
	console *locked
	group   cgroup.Group
	process *exec.Cmd
	ended   chan struct{}
	leader  int // its PID 1, seen from here
}

// New makes a machine of Debian 12 with systemd and the packages; args are
// added to systemd-nspawn's. Its files are its own, over a root folder that is
// built once and cached.
func New(t testing.TB, packages []string, args ...string) *Machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("systemd-nspawn needs root")
	}
	m := &Machine{t: t, args: args, Net: newNetwork(t), console: &locked{}}
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

// overlay lays a folder of the test's own over a root folder.
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

// Put writes a file of the machine.
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

// Boot starts the machine and waits until commands can be run on it.
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
	m.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM} // also when the test is killed
	if err := m.process.Start(); err != nil {
		m.removeGroup()
		m.t.Fatalf("cannot boot: %v", err)
	}
	m.ended = make(chan struct{})
	go func(p *exec.Cmd, ended chan struct{}) { _ = p.Wait(); close(ended) }(m.process, m.ended)
	deadline := time.Now().Add(bootTime)
	for {
		if m.leader = child(m.process.Process.Pid); m.leader > 0 {
			if out, err := m.Output("systemctl", "show", "--property=Version"); err == nil && strings.Contains(out, "Version=") {
				return
			}
		}
		select {
		case <-m.ended:
			m.t.Fatalf("the machine ended while it booted:\n%s", m.Console())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the machine does not answer after %s:\n%s", bootTime, m.Console())
		}
	}
}

// child is the first child of a process, 0 if it has none.
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

// Try runs a command on the machine, for two minutes at most.
func (m *Machine) Output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	enter := append([]string{"-t", strconv.Itoa(m.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", name}, args...)
	c := exec.CommandContext(ctx, "nsenter", enter...)
	// The command is nsenter's child, and holds the pipe.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	out, err := c.CombinedOutput()
	return string(out), err
}

// Run runs a command that must go well.
func (m *Machine) Run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.Output(name, args...)
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Exit runs a command and returns its exit code.
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

// Stop ends the machine: orderly, else by force.
func (m *Machine) Stop() {
	if m.process == nil {
		return
	}
	// SIGTERM of systemd-nspawn is an orderly power-off.
	_ = m.process.Process.Signal(unix.SIGTERM)
	select {
	case <-m.ended:
	case <-time.After(stopTime):
		m.kill()
	}
	m.removeGroup()
}

// Cut ends the machine as a power cut does.
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

// Console is what the machine has printed since its last boot.
func (m *Machine) Console() string { return m.console.String() }

// locked is a buffer that is read while it is written.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *locked) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

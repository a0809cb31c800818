package nslab

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/test/lab/parts"
	"github.com/projecteru2/firstboot/test/lab/procs"
)

//go:embed init.sh
var initScript string

const (
	// bootTimeout limits the start of a host's init.
	bootTimeout = 30 * time.Second
	// commandTimeout limits a command in a host.
	commandTimeout = 90 * time.Second
	// pollInterval is the time between two attempts.
	pollInterval = 100 * time.Millisecond
)

// Host is a Debian 13 in namespaces of its own.
type Host struct {
	Name    string
	Address netip.Addr
	Docker  parts.Engine

	lab      *Lab
	index    int
	boots    int
	dir      string
	global   bool
	config   *config.Config // after Join
	init     *procs.Process
	services map[string]*procs.Process
}

// Boot starts the host's init in new namespaces.
func (h *Host) Boot(ctx context.Context) error {
	for _, d := range []string{"upper", "work", "root", "docker", "containerd"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			return fmt.Errorf("cannot boot %s: %w", h.Name, err)
		}
	}
	cmd := exec.Command("bash", "-c", initScript, "init.sh", h.Name, h.lab.lower, h.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	log, err := os.Create(filepath.Join(h.dir, "init.log"))
	if err != nil {
		return fmt.Errorf("cannot boot %s: %w", h.Name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	h.services = map[string]*procs.Process{}
	if h.init, err = h.lab.group.Start("init of "+h.Name, cmd); err != nil {
		return err
	}
	h.boots++
	// A new name: the kernel removes the interfaces of the last boot in its own time.
	if err := h.lab.Net.Veth(fmt.Sprintf("veth%d-%d", h.index, h.boots), h.init.PID, h.Address); err != nil {
		return fmt.Errorf("cannot boot %s: %w", h.Name, err)
	}
	ready := fmt.Sprintf("/proc/%d/root/run/lab/ready", h.init.PID)
	return eventually(ctx, bootTimeout, "the init of "+h.Name, func() error {
		if h.init.State() != "running" {
			text, _ := os.ReadFile(log.Name())
			return fatalError{fmt.Errorf("it ended (%s): %s", h.init.State(), text)}
		}
		_, err := os.Stat(ready)
		return err
	})
}

// PowerCut kills everything on the host at once. Its interfaces disappear with its
// network namespace. Its disk stays.
func (h *Host) PowerCut() error {
	if err := h.init.Kill(); err != nil {
		return err
	}
	for _, p := range h.services {
		<-p.Ended()
	}
	return nil
}

// path returns PATH on the host: the programs of its Docker come first.
func (h *Host) path() string {
	return engineDir(h.Docker.Version) + ":/usr/sbin:/usr/bin:/sbin:/bin"
}

// command returns a command that runs on the host. It is killed with its children.
func (h *Host) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(h.init.PID), "-m", "-u", "-p", "-i", "-n", "-r", "-w", "--",
		"env", "-i", "PATH=" + h.path(), "HOME=/root", "LC_ALL=C.UTF-8"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Input runs a command on the host with this standard input. It returns stdout
// without surrounding space. An error contains stderr.
func (h *Host) Input(ctx context.Context, input string, args ...string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := h.command(limited, args...)
	var out, messages bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &messages
	err := cmd.Run()
	text := strings.TrimSpace(out.String())
	if limited.Err() != nil {
		err = fmt.Errorf("timed out after %s", commandTimeout)
	}
	if err != nil {
		return text, fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(args, " "), err, strings.TrimSpace(messages.String()))
	}
	return text, nil
}

// Run runs a command on the host.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	return h.Input(ctx, "", args...)
}

// Write writes a file of the host. It replaces an existing one.
func (h *Host) Write(ctx context.Context, path, text string, perm os.FileMode) error {
	_, err := h.Input(ctx, text, "sh", "-euc", `mkdir -p "$(dirname "$1")"; cat >"$1.new"; chmod "$2" "$1.new"; mv "$1.new" "$1"`,
		"sh", path, fmt.Sprintf("%o", perm))
	return err
}

// service is a program that the host runs all the time.
type service struct {
	name   string
	listen string // Unix socket that the program is passed
	pre    string // shell script that must succeed before each start
	env    []string
	args   []string
}

// start starts a service. It runs, and is restarted when it ends, until Stop.
func (h *Host) start(s service) error {
	args := append([]string{"env"}, s.env...)
	args = append(args, superviseFile, "-name", s.name, "-listen", s.listen, "-pre", s.pre, "--")
	cmd := h.command(context.Background(), append(args, s.args...)...)
	cmd.Cancel, cmd.WaitDelay = nil, 0
	process, err := h.lab.group.Start(s.name+" of "+h.Name, cmd)
	if err != nil {
		return err
	}
	h.services[s.name] = process
	return nil
}

// Stop stops a service with SIGTERM and waits for its end.
func (h *Host) Stop(ctx context.Context, name string) error {
	process, running := h.services[name]
	if !running {
		return fmt.Errorf("cannot stop %s on %s: it is not running", name, h.Name)
	}
	delete(h.services, name)
	if _, err := h.Run(ctx, "pkill", "-TERM", "-xf", superviseFile+" -name "+name+" .*"); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return process.Wait(limited)
}

// Kill kills the program of a service with SIGKILL. The service then restarts it.
func (h *Host) Kill(ctx context.Context, name string) error {
	_, err := h.Run(ctx, "sh", "-euc", `kill -KILL "$(cat "/run/lab/$1.pid")"`, "sh", name)
	return err
}

// Logs returns the interfaces, the adapter's records and the network namespaces of
// the host, and the end of the output of all services.
func (h *Host) Logs() string {
	const tail = 3000
	var all strings.Builder
	for _, dir := range []string{"/sys/class/net", "/run/firstboot/adapter/endpoints", "/run/docker/netns"} {
		names, err := h.files().ReadDir(dir)
		fmt.Fprintf(&all, "--- %s on %s: %q %v\n", dir, h.Name, names, err)
	}
	files, _ := filepath.Glob(filepath.Join(h.dir, "upper/var/log/lab/*.log"))
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fmt.Fprintf(&all, "--- %s on %s\n%s\n", filepath.Base(path), h.Name, text[max(0, len(text)-tail):])
	}
	return all.String()
}

// fatalError ends eventually at once.
type fatalError struct{ error }

// eventually calls check at intervals until it succeeds.
func eventually(ctx context.Context, timeout time.Duration, what string, check func() error) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if fatal := (fatalError{}); errors.As(err, &fatal) {
			return fmt.Errorf("cannot wait for %s: %w", what, err)
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("timed out after %s waiting for %s: %w", timeout, what, err)
		case <-tick.C:
		}
	}
}

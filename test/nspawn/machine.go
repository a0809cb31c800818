package nspawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/cgroup"
	"github.com/projecteru2/firstboot/test/lab/procs"
	"github.com/projecteru2/firstboot/units"
)

// startTimeout limits the time until PID 1 answers, which is well below a second
// on an idle machine.
const startTimeout = 60 * time.Second

// File is a file on a machine.
type File struct {
	Path, Data string
	Mode       os.FileMode // 0: 0644
}

func (f File) write(root string) error {
	path := filepath.Join(root, f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	if err := os.WriteFile(path, []byte(f.Data), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // independent of the umask
}

// Options configure a machine.
type Options struct {
	MachineID string            // contents of /etc/machine-id
	Files     []File            // in addition to those of every machine
	Without   []string          // files to remove
	Enabled   map[string]string // target by unit
}

// Machine is a machine of systemd-nspawn.
type Machine struct {
	Name string // host name

	env     *Environment
	dir     string
	group   cgroup.Group
	process *procs.Process
	nspawn  int // PID of systemd-nspawn
	leader  int // PID of the machine's init, in this process's PID namespace
}

// Machine creates a machine, which is not running.
func (e *Environment) Machine(o Options) (*Machine, error) {
	e.serial++
	name := fmt.Sprintf("host%d", e.serial)
	m := &Machine{Name: name, env: e, dir: filepath.Join(e.dir, name)}
	for _, dir := range []string{m.Disk(), m.work(), m.root()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	files := append([]File{
		{Path: "/etc/machine-id", Data: o.MachineID, Mode: 0o444},
		{Path: "/etc/hostname", Data: name + "\n"},
		{Path: "/etc/hosts", Data: "127.0.0.1 localhost\n127.0.1.1 " + name + "\n"},
		{Path: "/etc/test-network", Data: fmt.Sprintf("ADDRESS=%s\n", m.Address())},
	}, o.Files...)
	for _, f := range files {
		if err := f.write(m.Disk()); err != nil {
			return nil, err
		}
	}
	for unit, target := range o.Enabled {
		if err := link(m.Disk(), unit, target); err != nil {
			return nil, err
		}
	}
	for _, path := range o.Without {
		if err := m.without(path); err != nil {
			return nil, err
		}
	}
	return m, e.group.Do(m.mount)
}

// without hides a file of the lower layers with a whiteout of overlayfs.
func (m *Machine) without(path string) error {
	path = filepath.Join(m.Disk(), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return unix.Mknod(path, unix.S_IFCHR, 0)
}

func (m *Machine) mount() error {
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", m.env.lower, m.Disk(), m.work())
	if err := unix.Mount("overlay", m.root(), "overlay", 0, options); err != nil {
		return fmt.Errorf("cannot mount the root file system of %s: %w", m.Name, err)
	}
	return nil
}

// Disk returns the upper directory of the machine's overlay: all files that differ
// from the shared root file system.
func (m *Machine) Disk() string { return filepath.Join(m.dir, "disk") }

func (m *Machine) work() string { return filepath.Join(m.dir, "work") }

// root returns the mount point, which only the group's thread sees.
func (m *Machine) root() string { return filepath.Join(m.dir, "root") }

// Address returns the machine's IPv4 address.
func (m *Machine) Address() string { return "10.99.0.1" + strings.TrimPrefix(m.Name, "host") }

// Boot boots the machine and returns when its PID 1 answers. options are
// additional options of systemd-nspawn.
func (m *Machine) Boot(ctx context.Context, options ...string) error {
	console, err := os.Create(m.consolePath())
	if err != nil {
		return err
	}
	defer console.Close()
	if err := m.env.group.Do(m.removeInterface); err != nil {
		return err
	}
	if m.group, err = cgroup.New(fmt.Sprintf("%s%d-%s", namePrefix, os.Getpid(), m.Name)); err != nil {
		return err
	}
	// In a new PID namespace no process outlives systemd-nspawn.
	args := []string{"--pid", "--mount-proc", "--fork", "--kill-child",
		"systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
		"--resolv-conf=off", "--timezone=off", "--console=read-only", "--network-bridge=lab0",
		"--directory=" + m.root(), "--machine=" + m.Name, "--hostname=" + m.Name}
	cmd := m.group.Command("unshare", append(args, options...)...)
	cmd.Stdout, cmd.Stderr = console, console
	if m.process, err = m.env.group.Start(m.Name, cmd); err != nil {
		return err
	}
	return m.waitForLeader(ctx)
}

// removeInterface removes the network interface of a killed machine if the kernel
// has not removed it yet.
func (m *Machine) removeInterface() error {
	link, err := netlink.LinkByName("vb-" + m.Name)
	if err != nil {
		return nil //nolint:nilerr // already removed
	}
	return netlink.LinkDel(link)
}

func (m *Machine) waitForLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if m.nspawn, m.leader = findInit(m.process.PID); m.leader != 0 {
			if _, err := os.Stat(m.Path("/run/systemd/private")); err == nil {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-m.process.Ended():
			return fmt.Errorf("cannot boot %s: systemd-nspawn exited (%s):\n%s", m.Name, m.process.State(), m.Console())
		case <-ctx.Done():
			return fmt.Errorf("cannot boot %s: PID 1 does not answer: %w\n%s", m.Name, ctx.Err(), m.Console())
		}
	}
}

// findInit finds systemd-nspawn, which is a child of unshare, and its child that is
// PID 1 of the machine. It returns 0 if they have not started yet.
func findInit(unshare int) (nspawn, leader int) {
	for _, nspawn := range children(unshare) {
		for _, child := range children(nspawn) {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", child))
			if initLine.Match(status) {
				return nspawn, child
			}
		}
	}
	return 0, 0
}

// initLine matches the status of a process that is PID 1 two PID namespaces below.
var initLine = regexp.MustCompile(`(?m)^NSpid:\t\d+\t\d+\t1$`)

func children(pid int) []int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	var list []int
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			list = append(list, child)
		}
	}
	return list
}

// Path returns the path by which this process can access a file of the running
// machine. Symbolic links in it must be relative.
func (m *Machine) Path(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.leader, path)
}

func (m *Machine) consolePath() string { return filepath.Join(m.dir, "console") }

// Console returns the console output of the current boot, without colours.
func (m *Machine) Console() string {
	text, _ := os.ReadFile(m.consolePath())
	return strings.ReplaceAll(escapes.ReplaceAllString(string(text), ""), "\r", "")
}

// escapes are control sequences of terminals (ECMA-48).
var escapes = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|[()].|.)`)

// PowerOff shuts the machine down cleanly, and returns how long that took.
func (m *Machine) PowerOff(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	if err := syscall.Kill(m.nspawn, syscall.SIGTERM); err != nil {
		return 0, err
	}
	if err := m.process.Wait(ctx); err != nil {
		return 0, err
	}
	return time.Since(start), m.removeGroup()
}

// Cut kills the machine like a power cut. It does nothing if the machine is off.
func (m *Machine) Cut() error {
	if m.process == nil {
		return nil
	}
	return errors.Join(m.process.Kill(), m.removeGroup())
}

func (m *Machine) removeGroup() error {
	err := m.group.Remove()
	m.group, m.process, m.nspawn, m.leader = nil, nil, 0, 0
	return err
}

// Run runs a command on the machine and returns its output and its exit code. The
// code is -1 if the command could not be run or was killed.
func (m *Machine) Run(ctx context.Context, args ...string) (string, int) {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", fmt.Sprint(m.leader), "--all"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER="}
	out, err := cmd.CombinedOutput()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return err.Error(), -1
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Property returns a property of a unit, as printed by systemctl show.
func (m *Machine) Property(ctx context.Context, unit, name string) string {
	out, _ := m.Run(ctx, "systemctl", "show", "--property="+name, "--value", "--", unit)
	return strings.TrimSpace(out)
}

// Journal returns this boot's journal of a unit. The unit "" means all units.
func (m *Machine) Journal(ctx context.Context, unit string) string {
	args := []string{"journalctl", "--boot", "--quiet", "--no-hostname", "--output=short-monotonic"}
	if unit != "" {
		args = append(args, "--unit="+unit)
	}
	out, _ := m.Run(ctx, args...)
	return out
}

// Enabled returns the units that an image enables.
func Enabled() map[string]string { return units.Enabled() }

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

// startTime bounds the time until PID 1 answers; it is well below a second on
// an idle machine.
const startTime = 60 * time.Second

// File is a file of a machine.
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
	return os.Chmod(path, mode) // whatever the umask is
}

// Options are how a machine differs from the others.
type Options struct {
	MachineID string            // what is in /etc/machine-id; "": an empty file
	Files     []File            // over those that every machine has
	Without   []string          // files that it does not have
	Enabled   map[string]string // units, each with the target that wants it
}

// Machine is one machine: its disk, and while it runs, its PID 1.
type Machine struct {
	Name string // its host name

	site    *Site
	dir     string
	group   cgroup.Group
	process *procs.Process
	nspawn  int // systemd-nspawn's pid
	leader  int // the pid, for this process, of the machine's PID 1
}

// Machine makes a machine, switched off.
func (s *Site) Machine(o Options) (*Machine, error) {
	s.serial++
	name := fmt.Sprintf("host%d", s.serial)
	m := &Machine{Name: name, site: s, dir: filepath.Join(s.dir, name)}
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
	return m, s.group.Do(m.mount)
}

// without hides a file of the layers below, by overlayfs's mark for that.
func (m *Machine) without(path string) error {
	path = filepath.Join(m.Disk(), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return unix.Mknod(path, unix.S_IFCHR, 0)
}

func (m *Machine) mount() error {
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", m.site.lower, m.Disk(), m.work())
	if err := unix.Mount("overlay", m.root(), "overlay", 0, options); err != nil {
		return fmt.Errorf("cannot mount the root of %s: %w", m.Name, err)
	}
	return nil
}

// Disk is the folder with what the machine has written: all that differs from
// the root file system of every machine.
func (m *Machine) Disk() string { return filepath.Join(m.dir, "disk") }

func (m *Machine) work() string { return filepath.Join(m.dir, "work") }

// root is the mount point, seen by the group's thread alone.
func (m *Machine) root() string { return filepath.Join(m.dir, "root") }

// Address is the machine's IPv4 address.
func (m *Machine) Address() string { return "10.99.0.1" + strings.TrimPrefix(m.Name, "host") }

// Boot switches the machine on and returns when its PID 1 can be asked.
// options are systemd-nspawn's, over those that every machine has.
func (m *Machine) Boot(ctx context.Context, options ...string) error {
	console, err := os.Create(m.consolePath())
	if err != nil {
		return err
	}
	defer console.Close()
	if err := m.site.group.Do(m.pullCable); err != nil {
		return err
	}
	if m.group, err = cgroup.New(fmt.Sprintf("%s%d-%s", namePrefix, os.Getpid(), m.Name)); err != nil {
		return err
	}
	// In a namespace of its own no process outlives systemd-nspawn.
	args := []string{"--pid", "--mount-proc", "--fork", "--kill-child",
		"systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no",
		"--resolv-conf=off", "--timezone=off", "--console=read-only", "--network-bridge=lab0",
		"--directory=" + m.root(), "--machine=" + m.Name, "--hostname=" + m.Name}
	cmd := m.group.Command("unshare", append(args, options...)...)
	cmd.Stdout, cmd.Stderr = console, console
	if m.process, err = m.site.group.Start(m.Name, cmd); err != nil {
		return err
	}
	return m.waitForLeader(ctx)
}

// pullCable removes the network interface of a machine whose power was cut, if
// the kernel has not come to it yet.
func (m *Machine) pullCable() error {
	link, err := netlink.LinkByName("vb-" + m.Name)
	if err != nil {
		return nil //nolint:nilerr // it is gone, as it should be
	}
	return netlink.LinkDel(link)
}

func (m *Machine) waitForLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if m.nspawn, m.leader = initOf(m.process.PID); m.leader != 0 {
			if _, err := os.Stat(m.Path("/run/systemd/private")); err == nil {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-m.process.Ended():
			return fmt.Errorf("cannot boot %s: systemd-nspawn ended (%s):\n%s", m.Name, m.process.State(), m.Console())
		case <-ctx.Done():
			return fmt.Errorf("cannot boot %s: PID 1 does not answer: %w\n%s", m.Name, ctx.Err(), m.Console())
		}
	}
}

// initOf finds systemd-nspawn below unshare, and below it the process that is
// PID 1 of the machine; 0 where there is none yet.
func initOf(unshare int) (nspawn, leader int) {
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

// initLine tells a process that is PID 1 two namespaces further in.
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

// Path is where a file of the running machine lies for this process.
// Symbolic links in it must be relative.
func (m *Machine) Path(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.leader, path)
}

func (m *Machine) consolePath() string { return filepath.Join(m.dir, "console") }

// Console is what the present boot has shown on the console, without colours.
func (m *Machine) Console() string {
	text, _ := os.ReadFile(m.consolePath())
	return strings.ReplaceAll(escapes.ReplaceAllString(string(text), ""), "\r", "")
}

// escapes are control sequences of terminals (ECMA-48).
var escapes = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|[()].|.)`)

// PowerOff shuts the machine down in good order, and returns how long that took.
func (m *Machine) PowerOff(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := syscall.Kill(m.nspawn, syscall.SIGTERM); err != nil {
		return 0, err
	}
	if err := m.process.Wait(ctx); err != nil {
		return 0, err
	}
	return time.Since(began), m.removeGroup()
}

// Cut cuts the power. A machine that is off stays off.
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

// Run runs a command inside and returns what it printed and its exit code,
// which is -1 if it could not be run or was killed.
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

// Property is a property of a unit, as systemctl show prints it.
func (m *Machine) Property(ctx context.Context, unit, name string) string {
	out, _ := m.Run(ctx, "systemctl", "show", "--property="+name, "--value", "--", unit)
	return strings.TrimSpace(out)
}

// Journal is what this boot's journal has of a unit, "": of everything.
func (m *Machine) Journal(ctx context.Context, unit string) string {
	args := []string{"journalctl", "--boot", "--quiet", "--no-hostname", "--output=short-monotonic"}
	if unit != "" {
		args = append(args, "--unit="+unit)
	}
	out, _ := m.Run(ctx, args...)
	return out
}

// Enabled are firstboot's units, as an image enables them.
func Enabled() map[string]string { return units.Enabled() }

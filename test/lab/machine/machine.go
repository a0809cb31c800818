// Package machine runs virtual machines with QEMU. It uses KVM if it works,
// otherwise TCG. A machine boots a given kernel, or from its disk or the network.
// Its disk is an overlay of an image. Its serial console is written to a file.
//
// The package knows nothing about the contents of the image.
package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

const (
	// MemoryMB is the default memory of a machine. Docker, calico-node and the
	// plugin together use about 500 MB.
	MemoryMB = 1024
	// powerOffTimeout limits the time that a machine takes to power itself off.
	// Most of it is spent by Docker stopping containers.
	powerOffTimeout = 3 * time.Minute
	// maxDir is the maximum length of a machine's directory. The path of a
	// socket is limited to 107 bytes (unix(7)).
	maxDir = 107 - len("/console.sock")
)

// Spec describes a machine.
type Spec struct {
	Name     string
	Dir      string // holds the machine's disk, console and control socket
	Kernel   string // empty: the firmware boots from the disk, or else from the network
	Initrd   string
	Image    string // the image that the machine's disk is an overlay of; empty: an empty disk
	Format   string // of Image: raw (default) or qcow2
	DiskMB   int    // size of an empty disk
	Direct   bool   // write to Image itself; to build images
	Append   string // kernel arguments in addition to root= and console=
	Tap      string // tap device of the network interface; empty: no interface
	MAC      string
	UUID     string // DMI product UUID; empty: all zero
	MemoryMB int    // 0: MemoryMB
	CodeMB   int    // cache for translated code under TCG; 0: CodeMB
	CPUs     int    // 0: 1
	Drives   []Drive
	Accel    Accel
}

// Drive is an additional disk: /dev/vdb, /dev/vdc, …
type Drive struct {
	Path     string // of a raw image
	ReadOnly bool
}

// Machine is a virtual machine. It is powered off until Start.
type Machine struct {
	Spec
	Console *Console

	group *procs.Group

	mu      sync.Mutex
	process *procs.Process
	started time.Time
}

// New creates a machine and its disk, but does not start it. The disk is an
// overlay, so the image is never written, unless spec.Direct is set.
func New(ctx context.Context, group *procs.Group, spec Spec) (*Machine, error) {
	if err := os.MkdirAll(spec.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create machine %s: %w", spec.Name, err)
	}
	if len(spec.Dir) > maxDir {
		return nil, fmt.Errorf("cannot create machine %s: the path %s is longer than %d bytes, too long for its sockets (set FIRSTBOOT_CACHE to a shorter path)", spec.Name, spec.Dir, maxDir)
	}
	m := &Machine{Spec: spec, group: group, Console: &Console{Path: filepath.Join(spec.Dir, "console.txt")}}
	if spec.Direct {
		return m, nil
	}
	return m, m.newDisk(ctx)
}

// Disk returns the path of the machine's disk, a qcow2 file.
func (m *Machine) Disk() string { return filepath.Join(m.Dir, "disk.qcow2") }

func (m *Machine) socket() string { return filepath.Join(m.Dir, "qmp.sock") }

// ConsoleSocket returns the path of a socket that is connected to the serial console.
func (m *Machine) ConsoleSocket() string { return filepath.Join(m.Dir, "console.sock") }

// Start powers the machine on.
func (m *Machine) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return fmt.Errorf("cannot start %s: it is already running", m.Name)
	}
	log, err := os.OpenFile(filepath.Join(m.Dir, "qemu.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", m.Name, err)
	}
	defer log.Close()
	cmd := exec.Command("qemu-system-x86_64", m.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	m.started = time.Now()
	if m.process, err = m.group.Start("qemu "+m.Name, cmd); err != nil {
		return err
	}
	q, err := m.control(ctx)
	if err != nil {
		output, _ := os.ReadFile(log.Name())
		err = fmt.Errorf("cannot start %s: %w: %s", m.Name, err, output)
		return errors.Join(err, m.process.Kill())
	}
	return q.Close()
}

func (m *Machine) arguments() []string {
	memory, cpus := m.MemoryMB, m.CPUs
	if memory == 0 {
		memory = MemoryMB
	}
	if cpus == 0 {
		cpus = 1
	}
	args := []string{"-name", m.Name, "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none",
		"-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(memory),
		"-drive", m.diskOptions(),
		"-device", "virtio-blk-pci,drive=disk0,bootindex=1",
		"-chardev", "socket,id=console,path=" + m.ConsoleSocket() + ",server=on,wait=off,logappend=on,logfile=" + m.Console.Path,
		"-serial", "chardev:console",
		"-qmp", "unix:" + m.socket() + ",server=on,wait=off"}
	args = append(args, m.Accel.arguments(m.CodeMB)...)
	// Boot order: a given kernel (QEMU's boot index 0), the disk, the network.
	// The interface's ROM is iPXE, which is not needed with a given kernel.
	rom := ""
	if m.Kernel != "" {
		rom = ",romfile="
		args = append(args, "-kernel", m.Kernel, "-initrd", m.Initrd, "-append", "root=/dev/vda rw console=ttyS0 "+m.Accel.KernelArguments()+" "+m.Append)
	}
	if m.UUID != "" {
		args = append(args, "-uuid", m.UUID)
	}
	if m.Tap != "" {
		args = append(args, "-netdev", "tap,id=net0,ifname="+m.Tap+",script=no,downscript=no", "-device", "virtio-net-pci,netdev=net0,bootindex=2,mac="+m.MAC+rom)
	}
	for i, d := range m.Drives {
		id, readOnly := fmt.Sprintf("disk%d", i+1), "off"
		if d.ReadOnly {
			readOnly = "on"
		}
		args = append(args, "-drive", "file="+d.Path+",if=none,id="+id+",format=raw,cache=unsafe,readonly="+readOnly, "-device", "virtio-blk-pci,drive="+id)
	}
	return args
}

// control connects to QEMU, which starts to listen after some milliseconds.
func (m *Machine) control(ctx context.Context) (*qmp, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", m.socket())
		if err == nil {
			return newQMP(ctx, conn)
		}
		select {
		case <-tick.C:
		case <-m.process.Ended():
			return nil, fmt.Errorf("qemu exited (%s)", m.process.State())
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot connect to qemu: %w", err)
		}
	}
}

// command runs one QMP command.
func (m *Machine) command(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return fmt.Errorf("cannot run %s on %s: it is powered off", name, m.Name)
	}
	q, err := m.control(ctx)
	if err != nil {
		return fmt.Errorf("cannot run %s on %s: %w", name, m.Name, err)
	}
	defer q.Close()
	if err := q.run(ctx, name); err != nil {
		return fmt.Errorf("cannot run %s on %s: %w", name, m.Name, err)
	}
	return nil
}

// Kill cuts the power. Data in the machine's memory that was not flushed to the
// disk is lost.
func (m *Machine) Kill() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return nil
	}
	p := m.process
	m.process = nil
	return p.Kill()
}

// PowerOff presses the power button, and waits until the machine is off.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.command(ctx, "system_powerdown"); err != nil {
		return err
	}
	return m.WaitOff(ctx)
}

// WaitOff waits until the machine has powered itself off.
func (m *Machine) WaitOff(ctx context.Context) error {
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("%s did not power off: %w", m.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == p {
		m.process = nil
	}
	return nil
}

// Reset presses the reset button: the power is cut and restored at once.
func (m *Machine) Reset(ctx context.Context) error { return m.command(ctx, "system_reset") }

// Pause stops the machine's processors until Resume.
func (m *Machine) Pause(ctx context.Context) error { return m.command(ctx, "stop") }

// Resume continues a paused machine.
func (m *Machine) Resume(ctx context.Context) error { return m.command(ctx, "cont") }

// Running reports whether the machine is powered on.
func (m *Machine) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return false
	}
	select {
	case <-m.process.Ended():
		return false
	default:
		return true
	}
}

// Started returns the time when the machine was last powered on.
func (m *Machine) Started() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.started
}

// diskOptions returns QEMU's options for the machine's disk. With cache=unsafe,
// flushed data goes to this machine's page cache, not to its disk, so it survives
// the end of QEMU. Data that was not flushed may be lost, as in a real power cut,
// because QEMU keeps qcow2's metadata of new clusters in memory.
func (m *Machine) diskOptions() string {
	path, format := m.Disk(), "qcow2"
	if m.Direct {
		path, format = m.Image, "raw"
	}
	return "file=" + path + ",if=none,id=disk0,format=" + format + ",cache=unsafe,discard=unmap"
}

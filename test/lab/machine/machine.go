// Package machine runs virtual machines: QEMU with KVM where it works and TCG
// elsewhere, a kernel booted directly or what the firmware finds, a disk that is
// an overlay of an image, and the serial console kept in a file.
//
// It knows nothing of what is in the image.
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
	// MemoryMB is a machine's memory where nothing else is said. Docker,
	// calico-node and the plugin together take about 500 MB.
	MemoryMB = 1024
	// powerOffTime is how long a machine may take to power itself off; Docker's
	// stop of its containers takes most of it.
	powerOffTime = 3 * time.Minute
	// maxDir leaves room for a socket's name in the 107 bytes that a socket's
	// path may have (unix(7)).
	maxDir = 107 - len("/console.sock")
)

// Spec says what a machine is made of.
type Spec struct {
	Name     string
	Dir      string // holds the machine's disk, console and control socket
	Kernel   string // empty: the firmware boots the disk, or the network where it cannot
	Initrd   string
	Image    string // the disk image that the machine's own disk is laid over; empty: an empty disk
	Format   string // of Image: raw (also empty) or qcow2
	DiskMB   int    // of an empty disk
	Direct   bool   // write to Image itself: for building images
	Append   string // kernel arguments besides root= and console=
	Tap      string // the tap of its network card; empty: no card
	MAC      string
	UUID     string // DMI product UUID; empty: QEMU's, all zero
	MemoryMB int    // 0: MemoryMB
	CodeMB   int    // for the emulated processor's translated code; 0: CodeMB
	CPUs     int    // 0: one
	Drives   []Drive
	Accel    Accel
}

// Drive is a further disk: /dev/vdb and on.
type Drive struct {
	Path     string // a raw image
	ReadOnly bool
}

// Machine is a virtual machine; powered off until Start.
type Machine struct {
	Spec
	Console *Console

	group *procs.Group

	mu      sync.Mutex
	process *procs.Process
	started time.Time
}

// New makes a machine with a disk of its own: an overlay, so the image is
// never written. It is not started.
func New(ctx context.Context, group *procs.Group, spec Spec) (*Machine, error) {
	if err := os.MkdirAll(spec.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make machine %s: %w", spec.Name, err)
	}
	if len(spec.Dir) > maxDir {
		return nil, fmt.Errorf("cannot make machine %s: the path %s is longer than %d bytes, too long for its sockets (set FIRSTBOOT_CACHE to a shorter one)", spec.Name, spec.Dir, maxDir)
	}
	m := &Machine{Spec: spec, group: group, Console: &Console{Path: filepath.Join(spec.Dir, "console.txt")}}
	if spec.Direct {
		return m, nil
	}
	return m, m.newDisk(ctx)
}

// Disk is the machine's own disk, a qcow2 file.
func (m *Machine) Disk() string { return filepath.Join(m.Dir, "disk.qcow2") }

func (m *Machine) socket() string { return filepath.Join(m.Dir, "qmp.sock") }

// ConsoleSocket is where a person can type at the serial console.
func (m *Machine) ConsoleSocket() string { return filepath.Join(m.Dir, "console.sock") }

// Start powers the machine on.
func (m *Machine) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return fmt.Errorf("cannot start %s: it runs", m.Name)
	}
	complaints, err := os.OpenFile(filepath.Join(m.Dir, "qemu.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", m.Name, err)
	}
	defer complaints.Close()
	cmd := exec.Command("qemu-system-x86_64", m.arguments()...)
	cmd.Stdout, cmd.Stderr = complaints, complaints
	m.started = time.Now()
	if m.process, err = m.group.Start("qemu "+m.Name, cmd); err != nil {
		return err
	}
	q, err := m.control(ctx)
	if err != nil {
		said, _ := os.ReadFile(complaints.Name())
		err = fmt.Errorf("cannot start %s: %w: %s", m.Name, err, said)
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
	// A given kernel comes first (QEMU gives it the boot index 0), then the disk,
	// then the network: the card's ROM is iPXE, for which such a kernel has no use.
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

// control connects to QEMU, which needs some milliseconds until it listens.
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
			return nil, fmt.Errorf("qemu ended (%s)", m.process.State())
		case <-ctx.Done():
			return nil, fmt.Errorf("qemu cannot be talked to: %w", err)
		}
	}
}

// command runs one command of QEMU's machine protocol.
func (m *Machine) command(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return fmt.Errorf("cannot %s %s: it is powered off", name, m.Name)
	}
	q, err := m.control(ctx)
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", name, m.Name, err)
	}
	defer q.Close()
	if err := q.run(ctx, name); err != nil {
		return fmt.Errorf("cannot %s %s: %w", name, m.Name, err)
	}
	return nil
}

// Kill cuts the power. What the machine had not flushed to its disk is gone
// only as far as its own memory held it.
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
	ctx, cancel := context.WithTimeout(ctx, powerOffTime)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("%s does not power off: %w", m.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == p {
		m.process = nil
	}
	return nil
}

// Reset presses the reset button: a power cut with the power back at once.
func (m *Machine) Reset(ctx context.Context) error { return m.command(ctx, "system_reset") }

// Pause stops the machine's processors; Resume lets them go on.
func (m *Machine) Pause(ctx context.Context) error { return m.command(ctx, "stop") }

// Resume lets a paused machine go on.
func (m *Machine) Resume(ctx context.Context) error { return m.command(ctx, "cont") }

// Running tells whether the machine is powered on.
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

// Started is when the machine was last powered on.
func (m *Machine) Started() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.started
}

// diskOptions says how the machine's own disk is written. cache=unsafe: what
// the guest flushes goes to this machine's page cache, not to its disk. It
// survives QEMU's end, as a power cut has it; what was not flushed may be lost,
// as there too (qcow2 keeps the places of new clusters in QEMU's memory).
func (m *Machine) diskOptions() string {
	path, format := m.Disk(), "qcow2"
	if m.Direct {
		path, format = m.Image, "raw"
	}
	return "file=" + path + ",if=none,id=disk0,format=" + format + ",cache=unsafe,discard=unmap"
}

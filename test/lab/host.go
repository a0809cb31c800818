package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/machine"
)

const (
	// bootTimeout limits the time from power-on to a login by SSH. It takes 25 s
	// for one machine under TCG, and a minute for two on a busy machine.
	bootTimeout = 5 * time.Minute
	// pollInterval is the time between two checks of a wait.
	pollInterval = time.Second
)

// Host is a machine of the lab.
type Host struct {
	Name    string
	Address netip.Addr
	Console *machine.Console

	lab     *Lab
	machine *machine.Machine

	mu     sync.Mutex
	client *ssh.Client
	known  ssh.PublicKey // the host key of the first connection
}

// newHost adds host n (counted from zero), which boots the image.
func (l *Lab) newHost(ctx context.Context, n int, image golden.Image, arguments string) error {
	h, err := l.AddHost(ctx, fmt.Sprintf("host%d", n+1), machine.Spec{
		Kernel: image.Kernel, Initrd: image.Initrd, Image: image.Disk,
	})
	if err == nil {
		h.machine.Append = h.KernelArguments(image.Release) + " " + arguments
	}
	return err
}

// AddHost adds a host, which is powered off. The spec sets what it boots and its
// disks. AddHost sets the other fields. They can be changed until the host is
// powered on.
func (l *Lab) AddHost(ctx context.Context, name string, spec machine.Spec) (*Host, error) {
	n := len(l.Hosts)
	if n >= maxHosts {
		return nil, fmt.Errorf("cannot add the host %s: a lab has at most %d hosts", name, maxHosts)
	}
	h := &Host{Name: name, Address: l.Net.Address(firstHost + n), lab: l}
	spec.Name, spec.Dir, spec.Accel, spec.CodeMB = name, filepath.Join(l.Dir, name), l.Accel, l.codeMB
	spec.Tap = fmt.Sprintf("tap%d", n+1)
	spec.MAC = fmt.Sprintf("52:54:00:fb:00:%02x", firstHost+n)
	// The UUID is unique and stays the same at every boot.
	spec.UUID = productUUID(name)
	if err := l.Net.Tap(spec.Tap); err != nil {
		return nil, err
	}
	var err error
	if h.machine, err = machine.New(ctx, l.group, spec); err != nil {
		return nil, err
	}
	h.Console = h.machine.Console
	l.Hosts = append(l.Hosts, h)
	return h, l.writeAccess()
}

// KernelArguments returns the lab's kernel arguments for a release, with the host
// name and the addresses. The image contains none of them. A Debian 13 host also
// has an IPv6 address.
func (h *Host) KernelArguments(r golden.Release) string {
	n := h.lab.Net
	mask := net.IP(net.CIDRMask(n.Prefix.Bits(), 32))
	arguments := fmt.Sprintf("%s systemd.hostname=%s ip=%s::%s:%s::eth0:off", r.KernelArguments(), h.Name, h.Address, n.Gateway(), mask)
	if r == golden.Debian13 {
		arguments += fmt.Sprintf(" ip=[%s]:::64::eth0:off", h.Address6())
	}
	return arguments
}

// Address6 returns the host's IPv6 address, which ends in the host part of its
// IPv4 address: fd00:123::11 is that of host1.
func (h *Host) Address6() netip.Addr {
	v4 := h.Address.As4()
	return netip.MustParseAddr(fmt.Sprintf("fd00:123::%d", v4[3]))
}

// productUUID derives a UUID from the name.
func productUUID(name string) string {
	digest := sha256.Sum256([]byte("firstboot lab " + name))
	return fmt.Sprintf("%x-%x-%x-%x-%x", digest[0:4], digest[4:6], digest[6:8], digest[8:10], digest[10:16])
}

// Boot powers the host on.
func (h *Host) Boot(ctx context.Context) error { return h.machine.Start(ctx) }

// Kill cuts the host's power.
func (h *Host) Kill() error {
	h.disconnect()
	return h.machine.Kill()
}

// Reinstall cuts the host's power and restores its disk from the image.
func (h *Host) Reinstall(ctx context.Context) error {
	h.ForgetKey()
	return h.machine.Reinstall(ctx)
}

// ForgetKey makes the next connection accept a new SSH host key. Call it if the
// host generates one.
func (h *Host) ForgetKey() {
	h.disconnect()
	h.mu.Lock()
	h.known = nil
	h.mu.Unlock()
}

// PowerOff shuts the host down cleanly.
func (h *Host) PowerOff(ctx context.Context) error {
	if _, err := h.Run(ctx, "systemctl --no-block poweroff"); err != nil {
		return err
	}
	h.disconnect()
	return h.machine.WaitOff(ctx)
}

// Reboot reboots the host cleanly, and waits until a login is possible again.
func (h *Host) Reboot(ctx context.Context) error {
	before, err := h.bootID(ctx)
	if err != nil {
		return err
	}
	if _, err := h.Run(ctx, "systemctl --no-block reboot"); err != nil {
		return err
	}
	return h.waitNewBoot(ctx, before)
}

// Reset presses the host's reset button, and waits until a login is possible
// again.
func (h *Host) Reset(ctx context.Context) error {
	before, err := h.bootID(ctx)
	if err != nil {
		return err
	}
	if err := h.machine.Reset(ctx); err != nil {
		return err
	}
	return h.waitNewBoot(ctx, before)
}

func (h *Host) bootID(ctx context.Context) (string, error) {
	id, err := h.Output(ctx, "cat /proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(id), err
}

func (h *Host) waitNewBoot(ctx context.Context, before string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*bootTimeout)
	defer cancel()
	return h.Wait(ctx, "the new boot", func(ctx context.Context) error {
		h.disconnect() // it may be a connection to the previous boot
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		id, err := h.bootID(ctx)
		if err == nil && id == before {
			err = fmt.Errorf("the boot ID is still %s", before)
		}
		return err
	})
}

// WaitUp waits until a login to the host is possible.
func (h *Host) WaitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	return h.Wait(ctx, "a login by SSH", func(ctx context.Context) error {
		_, err := h.Output(ctx, "true")
		return err
	})
}

// Wait calls check at intervals until it returns nil. If the context ends first,
// the error contains what and the last error of check.
func (h *Host) Wait(ctx context.Context, what string, check func(ctx context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		return fmt.Errorf("cannot wait for %s: the context has no deadline", what)
	}
	start := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if !h.machine.Running() {
			return fmt.Errorf("cannot wait for %s: %s is powered off", what, h.Name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: timed out after %s waiting for %s: %w", h.Name, time.Since(start).Round(time.Second), what, err)
		}
	}
}

// WaitConsole waits for a console line that contains text, and returns the line.
// It reads all lines since the first power-on.
func (h *Host) WaitConsole(ctx context.Context, text string) (string, error) {
	var found string
	err := h.Console.Follow(ctx, func(line string) bool {
		if strings.Contains(line, text) {
			found = line
		}
		return found == ""
	})
	if err != nil {
		return "", fmt.Errorf("%s: cannot find %q on the console: %w", h.Name, text, err)
	}
	return found, nil
}

// Unplug disconnects the network cable.
func (h *Host) Unplug() error { return h.lab.Net.SetLink(h.machine.Tap, false) }

// Plug reconnects the network cable.
func (h *Host) Plug() error { return h.lab.Net.SetLink(h.machine.Tap, true) }

// Machine returns the host's virtual machine.
func (h *Host) Machine() *machine.Machine { return h.machine }

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
	// bootTime bounds the way from power-on to a login by SSH, which takes 25 s
	// for one machine under TCG and a minute for two beside other work.
	bootTime = 5 * time.Minute
	// pollEvery is how often a host is asked while something is waited for.
	pollEvery = time.Second
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
	known  ssh.PublicKey // the host key seen first
}

// newHost makes the n-th of the hosts that are alike, counted from zero.
func (l *Lab) newHost(ctx context.Context, n int, arguments string) error {
	h, err := l.AddHost(ctx, fmt.Sprintf("host%d", n+1), machine.Spec{
		Kernel: l.Image.Kernel, Initrd: l.Image.Initrd, Image: l.Image.Disk,
	})
	if err == nil {
		h.machine.Append = h.KernelArguments() + " " + arguments
	}
	return err
}

// AddHost makes one more host, powered off. The spec says what it boots, and
// from which disks; the rest of its hardware, its name and its address are
// given here. What the spec says can be changed until the host is powered on.
func (l *Lab) AddHost(ctx context.Context, name string, spec machine.Spec) (*Host, error) {
	n := len(l.Hosts)
	if n >= maxHosts {
		return nil, fmt.Errorf("cannot add %s: the lab has %d hosts, at most %d are possible", name, n, maxHosts)
	}
	h := &Host{Name: name, Address: l.Net.Address(firstHost + n), lab: l}
	spec.Name, spec.Dir, spec.Accel, spec.CodeMB = name, filepath.Join(l.Dir, name), l.Accel, l.codeMB
	spec.Tap = fmt.Sprintf("tap%d", n+1)
	spec.MAC = fmt.Sprintf("52:54:00:fb:00:%02x", firstHost+n)
	// The same machine has the same UUID at every boot, and no other has.
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
	return h, l.writeDoors()
}

// KernelArguments are the lab's own and who the machine is, for one that is
// told nowhere else: nothing of that is in an image.
func (h *Host) KernelArguments() string {
	w := h.lab.Net
	mask := net.IP(net.CIDRMask(w.Prefix.Bits(), 32))
	return fmt.Sprintf("%s systemd.hostname=%s ip=%s::%s:%s::eth0:off", golden.KernelArguments, h.Name, h.Address, w.Gateway(), mask)
}

// productUUID is a UUID made of the name.
func productUUID(name string) string {
	sum := sha256.Sum256([]byte("firstboot lab " + name))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// Boot powers the host on.
func (h *Host) Boot(ctx context.Context) error { return h.machine.Start(ctx) }

// Kill cuts the host's power.
func (h *Host) Kill() error {
	h.hangUp()
	return h.machine.Kill()
}

// Reinstall cuts the host's power and makes its disk that of the image again:
// the same machine, with nothing left of what it was.
func (h *Host) Reinstall(ctx context.Context) error {
	h.ForgetKey()
	return h.machine.Reinstall(ctx)
}

// ForgetKey takes the key for SSH that the host has next for its own: it makes
// it anew.
func (h *Host) ForgetKey() {
	h.hangUp()
	h.mu.Lock()
	h.known = nil
	h.mu.Unlock()
}

// PowerOff shuts the host down in good order.
func (h *Host) PowerOff(ctx context.Context) error {
	if _, err := h.Run(ctx, "systemctl --no-block poweroff"); err != nil {
		return err
	}
	h.hangUp()
	return h.machine.WaitOff(ctx)
}

// Reboot reboots the host in good order, and waits until the new boot can be
// logged in to.
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

// Reset presses the host's reset button, and waits until the new boot can be
// logged in to.
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
	ctx, cancel := context.WithTimeout(ctx, 2*bootTime)
	defer cancel()
	return h.Wait(ctx, "the new boot", func(ctx context.Context) error {
		h.hangUp() // the connection may be one to the boot before
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		id, err := h.bootID(ctx)
		if err == nil && id == before {
			err = fmt.Errorf("the boot is still %s", before)
		}
		return err
	})
}

// WaitUp waits until the host can be logged in to.
func (h *Host) WaitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	return h.Wait(ctx, "a login by SSH", func(ctx context.Context) error {
		_, err := h.Output(ctx, "true")
		return err
	})
}

// Wait asks again and again until ask returns nil or the context ends; then
// the error says what was waited for, and why it was not so the last time.
func (h *Host) Wait(ctx context.Context, what string, ask func(ctx context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		return fmt.Errorf("cannot wait for %s: without a deadline", what)
	}
	start := time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if !h.machine.Running() {
			return fmt.Errorf("cannot wait for %s: %s is powered off", what, h.Name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: no %s after %s: %w", h.Name, what, time.Since(start).Round(time.Second), err)
		}
	}
}

// WaitConsole waits for a line of the console, from power-on, that contains
// text, and returns it.
func (h *Host) WaitConsole(ctx context.Context, text string) (string, error) {
	var found string
	err := h.Console.Follow(ctx, func(line string) bool {
		if strings.Contains(line, text) {
			found = line
		}
		return found == ""
	})
	if err != nil {
		return "", fmt.Errorf("%s: no %q on the console: %w", h.Name, text, err)
	}
	return found, nil
}

// Unplug pulls the network cable; Plug puts it in again.
func (h *Host) Unplug() error { return h.lab.Net.Plug(h.machine.Tap, false) }

// Plug puts the network cable in again.
func (h *Host) Plug() error { return h.lab.Net.Plug(h.machine.Tap, true) }

// Machine is the host's hardware.
func (h *Host) Machine() *machine.Machine { return h.machine }

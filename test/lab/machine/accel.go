package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Accel is QEMU's accelerator.
type Accel string

// KVM uses the processor's virtualization. TCG emulates the processor.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// probeTimeout limits the probe. With a working KVM the kernel prints its first
// line within a second.
const probeTimeout = 10 * time.Second

// Probe returns KVM if a kernel boots with it, otherwise TCG. It is not enough
// that /dev/kvm exists and QEMU starts: on some machines the guest then executes
// no instruction.
func Probe(ctx context.Context, kernel string) Accel {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG
	}
	f.Close()
	dir, err := os.MkdirTemp("", "firstboot-kvm-")
	if err != nil {
		return TCG
	}
	defer os.RemoveAll(dir)
	if boots(ctx, KVM, kernel, filepath.Join(dir, "console.txt")) {
		return KVM
	}
	return TCG
}

// boots reports whether the kernel boots. Without a root file system the kernel
// panics, and QEMU exits because of -no-reboot.
func boots(ctx context.Context, a Accel, kernel, console string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	args := []string{"-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-m", "256", "-no-reboot",
		"-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-serial", "file:" + console}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, a.arguments(0)...)...)
	if err := cmd.Run(); err != nil {
		return false
	}
	output, err := os.ReadFile(console)
	return err == nil && strings.Contains(string(output), "Linux version") && strings.Contains(string(output), "Kernel panic")
}

// KernelArguments returns kernel arguments that make an emulated guest faster.
// TCG caches translated code by virtual address, so address space randomization
// causes a translation at every program start. Page table isolation flushes the
// TLB twice per system call. A test guest needs neither.
func (a Accel) KernelArguments() string {
	if a == KVM {
		return ""
	}
	return "norandmaps mitigations=off"
}

// CodeMB is the minimum size of an emulated machine's cache for translated code.
const CodeMB = 256

// arguments returns QEMU's arguments. codeMB is the size of the cache for
// translated code. If the cache is full, QEMU discards it and translates all code
// again: with 256 MB, 34 times in the 11 minutes in which a machine started
// Docker, calico-node and firstboot, which took half of that time.
func (a Accel) arguments(codeMB int) []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	// thread=multi: one thread per processor. tb-size: QEMU's default is 1 GB
	// for each machine. -svm: the guest does not load its KVM modules.
	return []string{"-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", max(codeMB, CodeMB)), "-cpu", "qemu64,-svm"}
}

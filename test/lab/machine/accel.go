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

// Accel is how QEMU runs a machine's processor.
type Accel string

// KVM runs on the processor itself, TCG translates.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// probeTime bounds the probe; with a KVM that works the kernel speaks within a
// second.
const probeTime = 10 * time.Second

// Probe tells whether KVM works here: by booting the kernel with it. The
// device file proves nothing, and neither does a QEMU that starts: both were
// seen on machines where no instruction was ever run.
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

// boots boots a kernel that has no root file system to mount: it speaks,
// panics, and with -no-reboot QEMU ends.
func boots(ctx context.Context, a Accel, kernel, console string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	args := []string{"-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-m", "256", "-no-reboot",
		"-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-serial", "file:" + console}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, a.arguments(0)...)...)
	if err := cmd.Run(); err != nil {
		return false
	}
	said, err := os.ReadFile(console)
	return err == nil && strings.Contains(string(said), "Linux version") && strings.Contains(string(said), "Kernel panic")
}

// KernelArguments make a guest's kernel fit for how its processor is run. An
// emulated one keeps translated code by its virtual address, and loses its TLB
// with each switch of page tables: programs that are loaded elsewhere each time
// are translated each time, and the isolation of the kernel's page tables costs
// two switches a system call. Neither protects a guest of a test.
func (a Accel) KernelArguments() string {
	if a == KVM {
		return ""
	}
	return "norandmaps mitigations=off"
}

// CodeMB is what an emulated machine has for translated code at least.
const CodeMB = 256

// arguments are QEMU's; codeMB is for translated code. A machine that runs
// Docker, calico-node and firstboot fills 256 MB again and again, and each time
// everything is translated anew: 34 times in 11 minutes, half of its time.
func (a Accel) arguments(codeMB int) []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	// One thread a processor. QEMU would take 1 GB for the code of each, however
	// many share this machine's memory. Without svm the guest does not load
	// KVM's own modules.
	return []string{"-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", max(codeMB, CodeMB)), "-cpu", "qemu64,-svm"}
}

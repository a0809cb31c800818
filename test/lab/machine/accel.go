package machine

import (
	"context"
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
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, a.arguments()...)...)
	if err := cmd.Run(); err != nil {
		return false
	}
	said, err := os.ReadFile(console)
	return err == nil && strings.Contains(string(said), "Linux version") && strings.Contains(string(said), "Kernel panic")
}

func (a Accel) arguments() []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	// One thread a processor, and a smaller buffer for translated code than
	// the default of 1 GB: machines share one host's memory. Without svm the
	// guest does not load KVM's own modules.
	return []string{"-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "qemu64,-svm"}
}

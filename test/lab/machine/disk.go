package machine

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// overlay creates a qcow2 disk at path on top of backing, which is never written.
func overlay(ctx context.Context, backing, format, path string) error {
	backing, err := filepath.Abs(backing)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", backing, path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot create the disk %s on top of %s: %w: %s", path, backing, err, out)
	}
	return nil
}

// newDisk creates the machine's disk in its initial state.
func (m *Machine) newDisk(ctx context.Context) error {
	if m.Image != "" {
		return overlay(ctx, m.Image, cmp.Or(m.Format, "raw"), m.Disk())
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", m.Disk(), fmt.Sprintf("%dM", m.DiskMB)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot create the empty disk %s: %w: %s", m.Disk(), err, out)
	}
	return nil
}

// Reinstall cuts the machine's power and restores its disk to the initial state.
func (m *Machine) Reinstall(ctx context.Context) error {
	if err := m.Kill(); err != nil {
		return err
	}
	return m.newDisk(ctx)
}

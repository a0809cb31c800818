package machine

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// overlay makes path a qcow2 disk that holds what differs from backing, which
// is never written.
func overlay(ctx context.Context, backing, format, path string) error {
	backing, err := filepath.Abs(backing)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", backing, path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot make the disk %s over %s: %w: %s", path, backing, err, out)
	}
	return nil
}

// newDisk gives the machine its disk as it is at first.
func (m *Machine) newDisk(ctx context.Context) error {
	if m.Image != "" {
		return overlay(ctx, m.Image, cmp.Or(m.Format, "raw"), m.Disk())
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", m.Disk(), fmt.Sprintf("%dM", m.DiskMB)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot make the empty disk %s: %w: %s", m.Disk(), err, out)
	}
	return nil
}

// Reinstall gives the machine a new disk as it was at first, cutting its power
// before.
func (m *Machine) Reinstall(ctx context.Context) error {
	if err := m.Kill(); err != nil {
		return err
	}
	return m.newDisk(ctx)
}

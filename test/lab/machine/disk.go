package machine

import (
	"cmp"
	"context"
	"fmt"
	"os"
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

func (m *Machine) saved(name string) string {
	return filepath.Join(m.Dir, "saved-"+name+".qcow2")
}

// Save keeps the machine's disk as it is, under a name. The machine has to be
// powered off.
func (m *Machine) Save(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return fmt.Errorf("cannot save the disk of %s: it is powered on", m.Name)
	}
	// The disk so far is never written again: what comes later goes to a new
	// overlay.
	if err := os.Rename(m.Disk(), m.saved(name)); err != nil {
		return fmt.Errorf("cannot save the disk of %s: %w", m.Name, err)
	}
	return overlay(ctx, m.saved(name), "qcow2", m.Disk())
}

// Restore gives the machine the disk that was saved under a name, cutting its
// power first. The saved disk can be restored again.
func (m *Machine) Restore(ctx context.Context, name string) error {
	if err := m.Kill(); err != nil {
		return err
	}
	if _, err := os.Stat(m.saved(name)); err != nil {
		return fmt.Errorf("cannot restore the disk of %s: %w", m.Name, err)
	}
	return overlay(ctx, m.saved(name), "qcow2", m.Disk())
}

// Reinstall gives the machine a new disk as it was at first, cutting its power
// before.
func (m *Machine) Reinstall(ctx context.Context) error {
	if err := m.Kill(); err != nil {
		return err
	}
	return m.newDisk(ctx)
}

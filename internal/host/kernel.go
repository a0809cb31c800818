package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sysctl reads a kernel setting by its dotted name. A key that the kernel does
// not have (its module is not loaded) gives fs.ErrNotExist.
func (h *Host) Sysctl(key string) (string, error) {
	data, err := h.ReadFile(sysctlPath(key))
	if err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(string(data)), " "), nil
}

// SetSysctl sets a kernel setting until the next boot.
func (h *Host) SetSysctl(key, value string) error {
	h.step("sysctl", key)
	// Not WriteFile: a file of /proc cannot be replaced, only written.
	f, err := os.OpenFile(h.path(sysctlPath(key)), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("cannot set %s: %w", key, plain(err))
	}
	_, err = f.WriteString(value + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot set %s=%s: %w", key, value, plain(err))
	}
	return nil
}

// sysctlPath is the file of a setting. As in sysctl(8), a slash in the key
// stands for a dot in a name (an interface such as eth0.5).
func sysctlPath(key string) string {
	return "/proc/sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// ModuleLoaded tells whether a kernel module is loaded or built in.
func (h *Host) ModuleLoaded(name string) bool {
	if h.Exists("/sys/module/" + name) {
		return true
	}
	data, err := h.ReadFile("/proc/modules")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, name+" ") {
			return true
		}
	}
	return false
}

// ModuleAvailable tells whether modprobe knows the module.
func (h *Host) ModuleAvailable(ctx context.Context, name string) bool {
	_, err := h.Query(ctx, Command{Name: "modprobe", Args: []string{"--dry-run", "--quiet", name}, Timeout: 20 * time.Second})
	return err == nil
}

// LoadModule loads a kernel module until the next boot.
func (h *Host) LoadModule(ctx context.Context, name string) error {
	h.step("module", name)
	if _, err := h.exec.Run(ctx, Command{Name: "modprobe", Args: []string{name}, Timeout: 30 * time.Second}); err != nil {
		return fmt.Errorf("cannot load the kernel module %s: %w", name, err)
	}
	return nil
}

// BootID names this boot; it changes with every boot.
func (h *Host) BootID() string { return h.line("/proc/sys/kernel/random/boot_id") }

// MachineID is /etc/machine-id, "" while it is not set.
func (h *Host) MachineID() string {
	id := h.line("/etc/machine-id")
	if id == "uninitialized" {
		return ""
	}
	return id
}

// ProductUUID is the machine's UUID as the firmware tells it (DMI), lower
// case; "" where there is none or it cannot be read.
func (h *Host) ProductUUID() string {
	return strings.ToLower(h.line("/sys/class/dmi/id/product_uuid"))
}

// Hostname is the kernel's host name.
func (h *Host) Hostname() string { return h.line("/proc/sys/kernel/hostname") }

// line is the first line of a small file, "" if it cannot be read.
func (h *Host) line(path string) string {
	data, err := h.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

// FreeSpace is how many bytes are free on the file system that path is on, or will
// be when it is made.
func (h *Host) FreeSpace(path string) (uint64, error) { return h.free(path) }

func (h *Host) freeSpace(path string) (uint64, error) {
	for !h.Exists(path) && path != "/" {
		path = filepath.Dir(path)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(h.path(path), &fs); err != nil {
		return 0, fmt.Errorf("cannot ask for the free space of %s: %w", path, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil //nolint:gosec // a block's size is positive
}

// NotExist tells whether err says that a file does not exist.
func NotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

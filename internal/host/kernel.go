package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sysctl reads a kernel setting by its dotted name. If the kernel does not have
// the key (its module is not loaded), the error wraps fs.ErrNotExist.
func (h *Host) Sysctl(key string) (string, error) {
	data, err := h.ReadFile(sysctlPath(key))
	if err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(string(data)), " "), nil
}

// SysctlMode returns the mode of a kernel setting. If the kernel does not have the
// key, the error wraps fs.ErrNotExist.
func (h *Host) SysctlMode(key string) (fs.FileMode, error) {
	info, err := h.Stat(sysctlPath(key))
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// SetSysctl sets a kernel setting until the next boot.
func (h *Host) SetSysctl(key, value string) error {
	h.step("sysctl", key)
	// WriteFile cannot be used: files in /proc cannot be replaced.
	f, err := h.openRegular(sysctlPath(key), unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("cannot set %s: %w", key, withoutPath(err))
	}
	_, err = f.WriteString(value + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot set %s=%s: %w", key, value, withoutPath(err))
	}
	return nil
}

// sysctlPath returns the file of a setting. As in sysctl(8), a slash in the key
// means a dot in a name (an interface such as eth0.5).
func sysctlPath(key string) string {
	return "/proc/sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// ModuleLoaded reports whether a kernel module is loaded, or is built in and has
// parameters.
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

// ModuleBuiltIn reports whether the running kernel's list of modules that are
// built in contains name.
func (h *Host) ModuleBuiltIn(name string) bool {
	release := h.firstLine("/proc/sys/kernel/osrelease")
	if release == "" || strings.Contains(release, "/") {
		return false
	}
	for _, dir := range []string{"/lib/modules/", "/usr/lib/modules/"} {
		data, err := h.ReadFile(dir + release + "/modules.builtin")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) { // kernel/net/netfilter/nf_conntrack.ko
			file, _, _ := strings.Cut(filepath.Base(strings.TrimSpace(line)), ".ko")
			if strings.ReplaceAll(file, "-", "_") == name {
				return true
			}
		}
	}
	return false
}

// ModuleAvailable reports whether modprobe can find the module.
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

// BootID identifies this boot.
func (h *Host) BootID() string { return h.firstLine("/proc/sys/kernel/random/boot_id") }

// MachineID is the content of /etc/machine-id, or "" if it is not set.
func (h *Host) MachineID() string {
	id := h.firstLine("/etc/machine-id")
	if id == "uninitialized" {
		return ""
	}
	return id
}

// ProductUUID is the firmware's UUID of the machine (DMI) in lower case, or ""
// if it cannot be read.
func (h *Host) ProductUUID() string {
	return strings.ToLower(h.firstLine("/sys/class/dmi/id/product_uuid"))
}

// Hostname is the kernel's host name.
func (h *Host) Hostname() string { return h.firstLine("/proc/sys/kernel/hostname") }

// firstLine returns the first line of a file, or "" if it cannot be read.
func (h *Host) firstLine(path string) string {
	data, err := h.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

// FreeSpace returns how many bytes are free on the file system of path, which
// need not exist yet.
func (h *Host) FreeSpace(path string) (uint64, error) { return h.freeSpace(path) }

func (h *Host) statFreeSpace(path string) (uint64, error) {
	for !h.Exists(path) && path != "/" {
		path = filepath.Dir(path)
	}
	dir, err := h.open(path, unix.O_PATH, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot read the free space of %s: %w", path, err)
	}
	defer dir.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return 0, fmt.Errorf("cannot read the free space of %s: %w", path, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil //nolint:gosec // a block's size is positive
}

// NotExist reports whether err means that a file does not exist.
func NotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

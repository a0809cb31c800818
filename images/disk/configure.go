package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// stampPath is the file of an installed system that holds the digest of its image.
const stampPath = "/etc/firstboot/installed-image"

// Configure writes a configuration to the system on a disk that was just written.
// It mounts the root file system meanwhile. digest is the SHA-256 of the image.
func Configure(ctx context.Context, h *host.Host, disk string, loaded *config.Loaded, digest string) error {
	found, err := withNewRoot(ctx, h, disk, func(root *host.Host) error {
		if name := loaded.Config.Host.Name; name != "" {
			if err := root.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
				return err
			}
		}
		if err := root.WriteFile(config.MainFile, loaded.Explicit(), 0o600); err != nil {
			return err
		}
		return root.WriteFile(stampPath, []byte(digest+"\n"), 0o644)
	})
	if err == nil && !found {
		return engine.WithHint(fmt.Errorf("cannot configure the system on %s: no file system on it contains /usr/bin/firstboot", disk),
			"install firstboot into the image with firstboot bake")
	}
	return err
}

// InstalledImage returns the SHA-256 of the image on a disk, as recorded by
// Configure; "" if there is no record or it cannot be read. It does not change the
// disk, not even to replay a journal (option norecovery of ext4, xfs and btrfs).
func InstalledImage(ctx context.Context, h *host.Host, disk string) string {
	digest := ""
	_, err := withRoot(ctx, h, disk, "ro,norecovery", func(root *host.Host) error {
		data, err := root.ReadFile(stampPath)
		digest = strings.TrimSpace(string(data))
		return err
	})
	if err != nil {
		return ""
	}
	return digest
}

// mountAttempts limits the attempts, one second apart, to mount a disk that was just
// written. When the disk is closed, udev makes the kernel read the partition table
// again; the partitions disappear meanwhile (measured: for less than a second).
const mountAttempts = 15

// withNewRoot waits for the root file system of a new disk and passes it to work.
func withNewRoot(ctx context.Context, h *host.Host, disk string, work func(*host.Host) error) (found bool, err error) {
	for i := range mountAttempts {
		// Errors are ignored: a live root may have no udev.
		_, _ = h.Query(ctx, host.Command{Name: "udevadm", Args: []string{"settle", "--timeout=10"}, Timeout: 15 * time.Second})
		found, err = withRoot(ctx, h, disk, "rw", work)
		if found || err != nil || i == mountAttempts-1 {
			return found, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	return false, nil
}

// withRoot mounts a disk's root file system, the first that contains firstboot, and
// passes it to work.
func withRoot(ctx context.Context, h *host.Host, disk, mode string, work func(*host.Host) error) (found bool, err error) {
	dir, err := os.MkdirTemp("", "firstboot-disk")
	if err != nil {
		return false, fmt.Errorf("cannot mount %s: %w", disk, err)
	}
	defer os.Remove(dir)
	for _, part := range partitions(disk) {
		// A partition that cannot be mounted is not the root file system.
		if mount(ctx, h, part, dir, mode) != nil {
			continue
		}
		root := host.New(dir)
		if found = root.Exists("/usr/bin/firstboot"); found {
			err = work(root)
		}
		// After a signal, too: a disk that stays mounted is in use for the next installation.
		_, unmounted := h.Run(context.WithoutCancel(ctx), host.Command{Name: "umount", Args: []string{dir}, Timeout: time.Minute})
		if err := errors.Join(err, unmounted); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

func mount(ctx context.Context, h *host.Host, device, dir, mode string) error {
	_, err := h.Run(ctx, host.Command{Name: "mount", Args: []string{"-o", mode + ",nosuid,nodev,noexec", device, dir}, Timeout: time.Minute})
	return err
}

// partitions returns the devices of a disk's partitions, or the disk itself if it
// has none.
func partitions(disk string) []string {
	if path, err := filepath.EvalSymlinks(disk); err == nil {
		disk = path
	}
	found, err := filepath.Glob(filepath.Join("/sys/class/block", filepath.Base(disk), "*", "partition"))
	if err != nil || len(found) == 0 {
		return []string{disk}
	}
	devices := make([]string, len(found))
	for i, path := range found {
		devices[i] = filepath.Join("/dev", filepath.Base(filepath.Dir(path)))
	}
	return devices
}

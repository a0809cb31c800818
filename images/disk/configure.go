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

// stamp names, on an installed system, the image that it was made from.
const stamp = "/etc/firstboot/installed-image"

// Configure hands a configuration to the system on a disk that was just
// written: its root file system is mounted for as long as that takes. sum is
// the image's.
func Configure(ctx context.Context, h *host.Host, disk string, loaded *config.Loaded, sum string) error {
	found, err := onNewRoot(ctx, h, disk, func(root *host.Host) error {
		if name := loaded.Config.Host.Name; name != "" {
			if err := root.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
				return err
			}
		}
		if err := root.WriteFile(config.MainFile, loaded.Explicit(), 0o600); err != nil {
			return err
		}
		return root.WriteFile(stamp, []byte(sum+"\n"), 0o644)
	})
	if err == nil && !found {
		return engine.WithHint(fmt.Errorf("cannot configure the system on %s: no file system on it holds /usr/bin/firstboot", disk),
			"the image must have firstboot in it: firstboot bake")
	}
	return err
}

// InstalledImage returns the digest of the image that the system on a disk was made from by
// Configure; empty: none, or it cannot be told. The disk is not changed: not
// even a journal is played back (norecovery, of ext4, xfs and btrfs).
func InstalledImage(ctx context.Context, h *host.Host, disk string) string {
	sum := ""
	_, err := onRoot(ctx, h, disk, "ro,norecovery", func(root *host.Host) error {
		data, err := root.ReadFile(stamp)
		sum = strings.TrimSpace(string(data))
		return err
	})
	if err != nil {
		return ""
	}
	return sum
}

// tries is how often, a second apart, the partitions of a disk that was just
// written are looked at: udev has the kernel read the table once more when the
// disk is closed, and they come and go meanwhile (seen for under a second).
const tries = 15

// onNewRoot works on the root file system of a disk as soon as it is there.
func onNewRoot(ctx context.Context, h *host.Host, disk string, work func(*host.Host) error) (found bool, err error) {
	for i := range tries {
		// A live root without udev has nothing to settle.
		_, _ = h.Query(ctx, host.Command{Name: "udevadm", Args: []string{"settle", "--timeout=10"}, Timeout: 15 * time.Second})
		found, err = onRoot(ctx, h, disk, "rw", work)
		if found || err != nil || i == tries-1 {
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

// onRoot mounts a disk's root file system, the first with a firstboot in it,
// and works on it.
func onRoot(ctx context.Context, h *host.Host, disk, mode string, work func(*host.Host) error) (found bool, err error) {
	at, err := os.MkdirTemp("", "firstboot-disk")
	if err != nil {
		return false, fmt.Errorf("cannot mount %s: %w", disk, err)
	}
	defer os.Remove(at)
	for _, part := range partitions(disk) {
		// What is no file system cannot be mounted, and is none that is wanted.
		if mount(ctx, h, part, at, mode) != nil {
			continue
		}
		root := host.New(at)
		if found = root.Exists("/usr/bin/firstboot"); found {
			err = work(root)
		}
		_, unmounted := h.Run(ctx, host.Command{Name: "umount", Args: []string{at}, Timeout: time.Minute})
		if err := errors.Join(err, unmounted); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

func mount(ctx context.Context, h *host.Host, device, at, mode string) error {
	_, err := h.Run(ctx, host.Command{Name: "mount", Args: []string{"-o", mode + ",nosuid,nodev,noexec", device, at}, Timeout: time.Minute})
	return err
}

// partitions are a disk's devices: its partitions, else the disk itself.
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

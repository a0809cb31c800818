package golden

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// WithMounted mounts the disk and calls fn with the mount point. Only the thread
// that runs fn and the commands that it starts see the mount. If this process is
// killed, no mount and no loop device remain. fn must not use other goroutines.
func WithMounted(ctx context.Context, disk string, fn func(root string) error) error {
	return withMount(ctx, disk, "loop", fn)
}

// WithMountedReadOnly is like WithMounted but never changes the disk, so that
// others can read it at the same time.
func WithMountedReadOnly(ctx context.Context, disk string, fn func(root string) error) error {
	return withMount(ctx, disk, "loop,ro,noload", fn)
}

func withMount(ctx context.Context, disk, options string, fn func(root string) error) error {
	root, err := os.MkdirTemp("", "firstboot-image-")
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	go func() {
		// The thread stays locked, so it ends here, and the mount with it.
		runtime.LockOSThread()
		result <- mountAndCall(ctx, disk, options, root, fn)
	}()
	return errors.Join(<-result, os.Remove(root))
}

func mountAndCall(ctx context.Context, disk, options, root string, fn func(string) error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot mount %s: %w (the lab needs root)", disk, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", disk, err)
	}
	// mount(8) creates loop devices that are released automatically.
	if err := run(ctx, "mount", "-t", "ext4", "-o", options, disk, root); err != nil {
		return err
	}
	err := fn(root)
	// --recursive: also unmount what fn mounted below.
	return errors.Join(err, run(ctx, "umount", "--recursive", root))
}

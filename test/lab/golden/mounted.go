package golden

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Mounted runs fn with the disk mounted at root. The mount is seen only by the
// thread that fn runs on, and by the commands it starts: if this process is
// killed, nothing stays mounted, and no loop device is left. fn must do its
// work in its own goroutine.
func Mounted(ctx context.Context, disk string, fn func(root string) error) error {
	return mounted(ctx, disk, "loop", fn)
}

// Read is Mounted for a disk that others may be reading, which must not change.
func Read(ctx context.Context, disk string, fn func(root string) error) error {
	return mounted(ctx, disk, "loop,ro,noload", fn)
}

func mounted(ctx context.Context, disk, options string, fn func(root string) error) error {
	root, err := os.MkdirTemp("", "firstboot-image-")
	if err != nil {
		return err
	}
	answer := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, and with it the mount, ends here.
		runtime.LockOSThread()
		answer <- mountAnd(ctx, disk, options, root, fn)
	}()
	return errors.Join(<-answer, os.Remove(root))
}

func mountAnd(ctx context.Context, disk, options, root string, fn func(string) error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot mount %s: %w (the lab needs root)", disk, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", disk, err)
	}
	// mount(8) makes loop devices that free themselves.
	if err := run(ctx, "mount", "-t", "ext4", "-o", options, disk, root); err != nil {
		return err
	}
	err := fn(root)
	// With all that fn mounted below.
	return errors.Join(err, run(ctx, "umount", "--recursive", root))
}

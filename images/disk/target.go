package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// target is the disk, claimed.
type target struct {
	name   string
	file   *os.File
	size   int64
	device bool
	seed   maphash.Seed
}

// openTarget claims a disk: the kernel gives a device that is mounted or part
// of something to nobody else.
func openTarget(ctx context.Context, h *host.Host, name string) (*target, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, engine.WithHint(fmt.Errorf("cannot install on %s: %w", name, plain(err)), "lsblk lists the disks")
	}
	device := info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
	if !device && !info.Mode().IsRegular() {
		return nil, engine.WithHint(fmt.Errorf("cannot install on %s: it is no disk", name), "lsblk lists the disks")
	}
	flags := os.O_RDWR
	if device {
		flags |= unix.O_EXCL
	}
	f, err := os.OpenFile(name, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, refuse("disk-in-use", name, "in use: "+users(ctx, h, name), "unmount it, or name another disk: lsblk lists them")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot install on %s: %w", name, plain(err))
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size < 2*headSize {
		err = fmt.Errorf("it has %d bytes", size)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot install on %s: %w", name, plain(err))
	}
	return &target{name: name, file: f, size: size, device: device, seed: maphash.MakeSeed()}, nil
}

func refuse(name, disk, seen, fix string) error {
	return &engine.Refusal{Findings: []engine.Difference{{Name: name, Object: disk, Actual: seen, Expected: "an empty disk that nothing uses", Fix: fix}}}
}

// users names what holds a disk, as far as lsblk can tell.
func users(ctx context.Context, h *host.Host, name string) string {
	out, err := h.Query(ctx, host.Command{Name: "lsblk", Args: []string{"--noheadings", "--list", "--paths", "--output", "NAME,TYPE,MOUNTPOINTS", name}, Timeout: 10 * time.Second})
	if err != nil {
		return "the kernel has it claimed"
	}
	return strings.Join(strings.Fields(string(out.Stdout)), " ")
}

// Close gives the disk back.
func (t *target) Close() error { return t.file.Close() }

// check refuses a disk that holds data. The zeros of a new disk, or of one on
// which an installation was cut off, are none.
func (t *target) check(ctx context.Context, h *host.Host, wipe bool) error {
	buf := make([]byte, headSize)
	for _, at := range []int64{0, t.size - headSize} {
		if _, err := t.file.ReadAt(buf, at); err != nil {
			return fmt.Errorf("cannot read %s: %w", t.name, plain(err))
		}
		if len(bytes.Trim(buf, "\x00")) > 0 && !wipe {
			return refuse("disk-holds-data", t.name, "holds "+contents(ctx, h, t.name), "name another disk, or give it up with --wipe")
		}
	}
	return nil
}

// contents says what a disk holds, as far as blkid can tell.
func contents(ctx context.Context, h *host.Host, name string) string {
	out, err := h.Query(ctx, host.Command{Name: "blkid", Args: []string{"--probe", "--output", "export", name}, Timeout: 20 * time.Second})
	if err != nil {
		return "data that blkid does not know"
	}
	var known []string
	for _, field := range strings.Fields(string(out.Stdout)) {
		for _, key := range []string{"LABEL=", "TYPE=", "PTTYPE="} {
			if strings.HasPrefix(field, key) {
				known = append(known, field)
			}
		}
	}
	if len(known) == 0 {
		return "data that blkid does not know"
	}
	return strings.Join(known, " ")
}

// blank takes away what a disk boots and is recognised by, durably.
func (t *target) blank() error {
	zeros := make([]byte, headSize)
	for _, at := range []int64{0, t.size - headSize} {
		if _, err := t.file.WriteAt(zeros, at); err != nil {
			return fmt.Errorf("cannot write to %s: %w", t.name, plain(err))
		}
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, plain(err))
	}
	return nil
}

// writeHead makes the disk whole, and reads it back.
func (t *target) writeHead(head []byte) error {
	if _, err := t.file.WriteAt(head, 0); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, plain(err))
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, plain(err))
	}
	t.forget()
	back := make([]byte, len(head))
	if _, err := t.file.ReadAt(back, 0); err != nil || !bytes.Equal(back, head) {
		return fmt.Errorf("cannot trust %s: its first blocks are not what was written", t.name)
	}
	return nil
}

// forget drops the kernel's copy of the disk, so that the next read asks the
// disk itself. Where that fails the copy is read: no harm is done.
func (t *target) forget() {
	if t.device {
		_ = unix.IoctlSetInt(int(t.file.Fd()), unix.BLKFLSBUF, 0) //nolint:gosec // descriptors are small
	}
	_ = unix.Fadvise(int(t.file.Fd()), 0, 0, unix.FADV_DONTNEED) //nolint:gosec // descriptors are small
}

// quickSum tells what a disk gives back from what was written. A broken disk is
// no adversary: the image itself is verified by its SHA-256, which on a slow
// processor takes longer than the disk does.
func (t *target) quickSum() *maphash.Hash {
	var h maphash.Hash
	h.SetSeed(t.seed)
	return &h
}

// sumOfTail reads back what follows the head, up to size.
func (t *target) sumOfTail(ctx context.Context, size int64, progress func(string, int64, int64)) (uint64, error) {
	t.forget()
	quick, buf := t.quickSum(), make([]byte, chunk)
	for at := int64(headSize); at < size; {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n := min(int64(len(buf)), size-at)
		if _, err := t.file.ReadAt(buf[:n], at); err != nil {
			return 0, fmt.Errorf("cannot read %s back: %w", t.name, plain(err))
		}
		quick.Write(buf[:n])
		at += n
		progress("reading back", at, size)
	}
	return quick.Sum64(), nil
}

// reread has the kernel take in the new partition table. A loop device
// without partitions (EINVAL) has none to take in.
func (t *target) reread() error {
	if !t.device {
		return nil
	}
	err := unix.IoctlSetInt(int(t.file.Fd()), unix.BLKRRPART, 0) //nolint:gosec // descriptors are small
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return engine.WithHint(fmt.Errorf("cannot have the kernel read the partition table of %s: %w", t.name, err), "the image is on the disk: reboot")
	}
	return nil
}

// plain takes the operation and path off an error whose caller names both.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

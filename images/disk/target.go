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

// target is the disk to write, opened exclusively.
type target struct {
	name   string
	file   *os.File
	size   int64
	device bool
	seed   maphash.Seed
}

// openTarget opens a disk exclusively. The kernel refuses this for a device that is
// mounted or part of a RAID, LVM or the like.
func openTarget(ctx context.Context, h *host.Host, name string) (*target, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, engine.WithHint(fmt.Errorf("cannot install on %s: %w", name, withoutPath(err)), "lsblk lists the disks")
	}
	device := info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
	if !device && !info.Mode().IsRegular() {
		return nil, engine.WithHint(fmt.Errorf("cannot install on %s: it is not a disk", name), "lsblk lists the disks")
	}
	flags := os.O_RDWR
	if device {
		flags |= unix.O_EXCL
	}
	f, err := os.OpenFile(name, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, refuse("disk-in-use", name, "in use: "+usage(ctx, h, name), usable, "unmount it, or choose another disk: lsblk lists them")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot install on %s: %w", name, withoutPath(err))
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size < 2*headSize {
		err = fmt.Errorf("it has %d bytes", size)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot install on %s: %w", name, withoutPath(err))
	}
	return &target{name: name, file: f, size: size, device: device, seed: maphash.MakeSeed()}, nil
}

// usable is the disk that an installation expects.
const usable = "an empty disk that is not in use"

// refuse returns a refusal with one finding.
func refuse(name, disk, actual, expected, fix string) error {
	return &engine.Refusal{Findings: []engine.Difference{{Name: name, Object: disk, Actual: actual, Expected: expected, Fix: fix}}}
}

// usage describes what uses a disk, as reported by lsblk.
func usage(ctx context.Context, h *host.Host, name string) string {
	out, err := h.Query(ctx, host.Command{Name: "lsblk", Args: []string{"--noheadings", "--list", "--paths", "--output", "NAME,TYPE,MOUNTPOINTS", name}, Timeout: 10 * time.Second})
	if err != nil {
		return "the kernel refuses exclusive access"
	}
	return strings.Join(strings.Fields(string(out.Stdout)), " ")
}

// Close closes the disk.
func (t *target) Close() error { return t.file.Close() }

// check refuses a disk that holds data, unless overwrite consents. Both ends of a new
// disk, and of one whose installation was interrupted, contain only zeros.
func (t *target) check(ctx context.Context, h *host.Host, overwrite func(contents string) bool) error {
	buf := make([]byte, headSize)
	for _, at := range []int64{0, t.size - headSize} {
		if _, err := t.file.ReadAt(buf, at); err != nil {
			return fmt.Errorf("cannot read %s: %w", t.name, withoutPath(err))
		}
		if len(bytes.Trim(buf, "\x00")) == 0 {
			continue
		}
		if found := contents(ctx, h, t.name); !overwrite(found) {
			return refuse("disk-holds-data", t.name, "holds "+found, usable, "choose another disk, or overwrite this one with --wipe")
		}
		return nil
	}
	return nil
}

// contents describes the data on a disk, as reported by blkid.
func contents(ctx context.Context, h *host.Host, name string) string {
	out, err := h.Query(ctx, host.Command{Name: "blkid", Args: []string{"--probe", "--output", "export", name}, Timeout: 20 * time.Second})
	if err != nil {
		return "data of a type unknown to blkid"
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
		return "data of a type unknown to blkid"
	}
	return strings.Join(known, " ")
}

// eraseEnds overwrites both ends of the disk with zeros and syncs them. The disk then
// does not boot and has no signatures.
func (t *target) eraseEnds() error {
	zeros := make([]byte, headSize)
	for _, at := range []int64{0, t.size - headSize} {
		if _, err := t.file.WriteAt(zeros, at); err != nil {
			return fmt.Errorf("cannot write to %s: %w", t.name, withoutPath(err))
		}
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, withoutPath(err))
	}
	return nil
}

// writeHead writes the image's head, which makes the disk bootable, and reads it back.
func (t *target) writeHead(head []byte) error {
	if _, err := t.file.WriteAt(head, 0); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, withoutPath(err))
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, withoutPath(err))
	}
	t.dropCache()
	back := make([]byte, len(head))
	if _, err := t.file.ReadAt(back, 0); err != nil || !bytes.Equal(back, head) {
		return fmt.Errorf("cannot use %s: its first blocks differ from the data written", t.name)
	}
	return nil
}

// dropCache drops the kernel's cache of the disk, so that the next read accesses the
// disk itself. Errors are ignored: then the cache is read.
func (t *target) dropCache() {
	if t.device {
		_ = unix.IoctlSetInt(int(t.file.Fd()), unix.BLKFLSBUF, 0) //nolint:gosec // descriptors are small
	}
	_ = unix.Fadvise(int(t.file.Fd()), 0, 0, unix.FADV_DONTNEED) //nolint:gosec // descriptors are small
}

// newChecksum returns the hash that compares the data read back with the data
// written. It need not be cryptographic: the image itself is verified by its
// SHA-256, which on a slow processor takes longer than reading the disk.
func (t *target) newChecksum() *maphash.Hash {
	var h maphash.Hash
	h.SetSeed(t.seed)
	return &h
}

// checksumRest reads the disk back from the end of the head up to size.
func (t *target) checksumRest(ctx context.Context, size int64, progress func(string, int64, int64)) (uint64, error) {
	t.dropCache()
	checksum, buf := t.newChecksum(), make([]byte, chunkSize)
	for at := int64(headSize); at < size; {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n := min(int64(len(buf)), size-at)
		if _, err := t.file.ReadAt(buf[:n], at); err != nil {
			return 0, fmt.Errorf("cannot read %s back: %w", t.name, withoutPath(err))
		}
		checksum.Write(buf[:n])
		at += n
		progress("reading back", at, size)
	}
	return checksum.Sum64(), nil
}

// rereadPartitions makes the kernel read the new partition table. A loop device
// without partitions returns EINVAL.
func (t *target) rereadPartitions() error {
	if !t.device {
		return nil
	}
	err := unix.IoctlSetInt(int(t.file.Fd()), unix.BLKRRPART, 0) //nolint:gosec // descriptors are small
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return engine.WithHint(fmt.Errorf("cannot make the kernel read the partition table of %s: %w", t.name, err), "the image is on the disk: reboot the machine")
	}
	return nil
}

// withoutPath removes the operation and the path from an error: the caller's message
// contains both.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

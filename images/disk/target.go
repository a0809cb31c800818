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
	// record is called after each write, and after each sync with no data. It may be nil.
	record func(at int64, data []byte)
}

// unfinished is in the first sector of a disk from the beginning of an installation
// until its end. The sector is not a boot sector.
const unfinished = "firstboot install did not finish on this disk.\n"

// sectorSize is the size in bytes of the smallest sector. A power cut does not tear it.
const sectorSize = 512

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

// contents describes the data on a disk; "" if there is none. Both ends of a new disk
// contain only zeros. A disk whose installation was interrupted holds no data.
func (t *target) contents(ctx context.Context, h *host.Host) (string, error) {
	buf := make([]byte, headSize)
	for _, at := range []int64{0, t.size - headSize} {
		if _, err := t.file.ReadAt(buf, at); err != nil {
			return "", fmt.Errorf("cannot read %s: %w", t.name, withoutPath(err))
		}
		if at == 0 && bytes.HasPrefix(buf, []byte(unfinished)) {
			return "", nil
		}
		if len(bytes.Trim(buf, "\x00")) > 0 {
			return signatures(ctx, h, t.name), nil
		}
	}
	return "", nil
}

// holdsData returns the refusal of a disk that holds data.
func holdsData(disk, contents string) error {
	return refuse("disk-holds-data", disk, "holds "+contents, usable, "choose another disk, or overwrite this one with --wipe")
}

// signatures describes the data on a disk, as reported by blkid.
func signatures(ctx context.Context, h *host.Host, name string) string {
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

// writeAt writes to the disk.
func (t *target) writeAt(data []byte, at int64) error {
	if _, err := t.file.WriteAt(data, at); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, withoutPath(err))
	}
	if t.record != nil {
		t.record(at, data)
	}
	return nil
}

// sync makes everything written durable.
func (t *target) sync() error {
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", t.name, withoutPath(err))
	}
	if t.record != nil {
		t.record(0, nil)
	}
	return nil
}

// eraseEnds overwrites both ends of the disk and syncs them. The disk then does not
// boot and has no signatures.
func (t *target) eraseEnds() error {
	head := make([]byte, headSize)
	copy(head, unfinished)
	if err := t.writeAt(head, 0); err != nil {
		return err
	}
	if err := t.writeAt(make([]byte, headSize), t.size-headSize); err != nil {
		return err
	}
	return t.sync()
}

// writeHead writes the image's head, which makes the disk bootable, and reads it back.
// The order is that of a disk that loses power at any time: the superblock of a file
// system (in the third sector) follows its other blocks, and the boot sector is last.
func (t *target) writeHead(head []byte) error {
	const second, third, fourth = sectorSize, 2 * sectorSize, 3 * sectorSize
	for _, part := range [][2]int{{fourth, len(head)}, {second, third}, {third, fourth}, {0, second}} {
		if err := t.writeAt(head[part[0]:part[1]], int64(part[0])); err != nil {
			return err
		}
		if err := t.sync(); err != nil {
			return err
		}
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

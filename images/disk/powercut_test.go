package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/projecteru2/firstboot/test/powercut"
)

// bootable reports whether a disk has what makes a machine boot from it, or mount it.
func bootable(disk []byte) bool {
	return disk[510] == 0x55 && disk[511] == 0xaa || disk[1080] == 0x53 && disk[1081] == 0xef
}

// superblock makes an image one of a file system without partitions.
func superblock(raw []byte) []byte {
	raw = bytes.Clone(raw)
	raw[510], raw[511], raw[1080], raw[1081] = 0, 0, 0x53, 0xef
	return raw
}

// recordInstallation installs an image on a disk and records it.
func recordInstallation(t *testing.T, raw, before []byte, wipe bool) *powercut.Block {
	t.Helper()
	disk := imageFile(t, before)
	recorder := powercut.StartBlock(before)
	o := options(imageFile(t, raw), raw, disk)
	o.Wipe, o.record = wipe, recorder.Record
	if _, err := write(t, o); err != nil {
		t.Fatal(err)
	}
	return recorder
}

// isPart reports whether a disk boots, but has neither the image nor what it had before
// the installation.
func isPart(disk, raw, before []byte) bool {
	middle := func(b []byte) []byte { return b[headSize : len(b)-headSize] }
	return bootable(disk) && !bytes.HasPrefix(disk[sectorSize:], raw[sectorSize:]) && !bytes.Equal(middle(disk), middle(before))
}

// oldSystem returns the content of a disk with another system.
func oldSystem(size int) []byte {
	old := bytes.Repeat([]byte("old data"), size/8)
	old[510], old[511] = 0x55, 0xaa
	return old
}

// inMemory returns a directory in memory, where a sync takes no time, if there is one.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "firstboot")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// After a power cut the disk does not boot a part of the image. The same command
// completes the installation. An empty disk needs no --wipe for that, even if the image
// reaches its end.
func TestInstallationIsCompletedAfterEveryPowerCut(t *testing.T) {
	raw, size := image(t)[:2<<20+4096], 3<<20
	dir := inMemory(t)
	for name, c := range map[string]struct {
		raw, before []byte
		wipe        bool
	}{
		"an empty disk":                   {raw, make([]byte, size), false},
		"an empty disk of the same size":  {raw, make([]byte, len(raw)), false},
		"a file system":                   {superblock(raw), make([]byte, size), false},
		"a disk with a system, with wipe": {raw, oldSystem(size), true},
	} {
		t.Run(name, func(t *testing.T) {
			file := imageFile(t, c.raw)
			recordInstallation(t, c.raw, c.before, c.wipe).Test(t, func(t *testing.T, disk []byte) {
				if isPart(disk, c.raw, c.before) {
					t.Error("the disk boots with a part of the image")
				}
				if bytes.HasPrefix(disk, c.raw) {
					return // the installation is complete
				}
				path := filepath.Join(dir, "disk")
				if err := os.WriteFile(path, disk, 0o600); err != nil {
					t.Fatal(err)
				}
				o := options(file, c.raw, path)
				o.Wipe = c.wipe
				if _, err := write(t, o); err != nil || !bytes.HasPrefix(content(t, path), c.raw) {
					t.Errorf("the disk does not have the image: %v", err)
				}
			})
		})
	}
}

// Without syncs a power cut leaves a disk that boots a part of the image. A test that
// cannot find this is worthless.
func TestMissingSyncOfADiskIsFound(t *testing.T) {
	raw, before := image(t), make([]byte, 4<<20)
	recorder := recordInstallation(t, raw, before, false)
	recorder.WithoutSyncs()
	parts := 0
	recorder.Test(t, func(_ *testing.T, disk []byte) {
		if isPart(disk, raw, before) {
			parts++
		}
	})
	if parts == 0 {
		t.Error("not found")
	}
}

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

// smallImage returns an image with a boot sector and the superblock of a file system.
func smallImage(t *testing.T) []byte {
	t.Helper()
	raw := image(t)[:2<<20+4096]
	raw[1080], raw[1081] = 0x53, 0xef
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

// After a power cut the disk does not boot a part of the image. The same command
// completes the installation. An empty disk needs no --wipe for that, even if the image
// reaches its end.
func TestInstallationIsCompletedAfterEveryPowerCut(t *testing.T) {
	raw, size := smallImage(t), 2<<20+128<<10
	dir := inMemory(t)
	for name, c := range map[string]struct {
		before []byte
		wipe   bool
	}{
		"an empty disk":                   {make([]byte, size), false},
		"an empty disk of the same size":  {make([]byte, len(raw)), false},
		"a disk with a system, with wipe": {oldSystem(size), true},
	} {
		t.Run(name, func(t *testing.T) {
			file := imageFile(t, raw)
			recordInstallation(t, raw, c.before, c.wipe).Test(t, func(t *testing.T, disk []byte) {
				if isPart(disk, raw, c.before) {
					t.Error("the disk boots with a part of the image")
				}
				if bytes.HasPrefix(disk, raw) {
					return // the installation is complete
				}
				path := filepath.Join(dir, "disk")
				if err := os.WriteFile(path, disk, 0o600); err != nil {
					t.Fatal(err)
				}
				o := options(file, raw, path)
				o.Wipe = c.wipe
				if _, err := write(t, o); err != nil || !bytes.HasPrefix(content(t, path), raw) {
					t.Errorf("the disk does not have the image: %v", err)
				}
			})
		})
	}
}

// Without syncs a power cut leaves a disk that boots a part of the image. A test that
// cannot find this is worthless.
func TestMissingSyncOfADiskIsFound(t *testing.T) {
	raw, before := smallImage(t), make([]byte, 2<<20+128<<10)
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

package lab

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/lab/machine"
)

const (
	// overheadMB is what QEMU takes at least besides a machine's memory, most of
	// it for translated code under TCG.
	overheadMB = machine.CodeMB
	// enoughCodeMB holds all the code that a machine runs in its life.
	enoughCodeMB = 1024
	// diskMB is what the cache and the disks of two hosts take in all, and
	// hostDiskMB what each further host may take.
	diskMB, hostDiskMB = 6000, 500
)

// checkRoom finds out before the slow builds, not after, that this machine is
// too small.
func checkRoom(dir string, hosts int) error {
	free, err := availableMB("/proc/meminfo")
	if err != nil {
		return err
	}
	if want := hosts * (machine.MemoryMB + overheadMB); free < want {
		return fmt.Errorf("cannot boot %d machines: they take %d MB of memory, %d MB are free (fewer: HOSTS=%d)",
			hosts, want, free, max(1, free/(machine.MemoryMB+overheadMB)))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(existing(dir), &fs); err != nil {
		return fmt.Errorf("cannot tell how much room there is for %s: %w", dir, err)
	}
	room := int(fs.Bavail * uint64(fs.Bsize) >> 20)
	if want := diskMB + hosts*hostDiskMB; room < want && existing(dir) != dir || room < hosts*hostDiskMB {
		return fmt.Errorf("cannot build the lab in %s: it takes %d MB, %d MB are free (set FIRSTBOOT_CACHE to a roomier folder)", dir, want, room)
	}
	return nil
}

// codeMB is the memory for translated code that each machine can have: half of
// what is left when all have their own memory.
func codeMB(hosts int) int {
	free, err := availableMB("/proc/meminfo")
	if err != nil {
		return 0 // the least
	}
	return min(enoughCodeMB, (free/hosts-machine.MemoryMB)/2)
}

// existing is the nearest folder above path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// availableMB reads MemAvailable, which proc(5) gives in kB.
func availableMB(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("cannot tell how much memory is free: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var kb int
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kb); err == nil {
			return kb >> 10, nil
		}
	}
	return 0, fmt.Errorf("cannot tell how much memory is free: %s has no MemAvailable", path)
}

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
	// overheadMB is the memory that QEMU needs in addition to the machine's
	// memory, most of it for translated code under TCG.
	overheadMB = machine.CodeMB
	// maxCodeMB is enough for all code that a machine ever runs.
	maxCodeMB = 1024
	// cacheMB is the size of the cache, and hostDiskMB the disk space per host.
	cacheMB, hostDiskMB = 6000, 500
)

// checkCapacity checks before the slow builds that this machine has enough memory
// and disk space.
func checkCapacity(dir string, hosts int) error {
	free, err := availableMB("/proc/meminfo")
	if err != nil {
		return err
	}
	if want := hosts * (machine.MemoryMB + overheadMB); free < want {
		return fmt.Errorf("cannot boot %d machines: they need %d MB of memory, %d MB are free (try HOSTS=%d)",
			hosts, want, free, max(1, free/(machine.MemoryMB+overheadMB)))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(existingParent(dir), &fs); err != nil {
		return fmt.Errorf("cannot read the free disk space of %s: %w", dir, err)
	}
	free = int(fs.Bavail * uint64(fs.Bsize) >> 20)
	if want := cacheMB + hosts*hostDiskMB; free < want && existingParent(dir) != dir || free < hosts*hostDiskMB {
		return fmt.Errorf("cannot build the lab in %s: it needs %d MB, %d MB are free (set FIRSTBOOT_CACHE to a directory with more space)", dir, want, free)
	}
	return nil
}

// codeMB returns the memory for translated code per machine: half of the memory
// that is left after all machines have theirs.
func codeMB(hosts int) int {
	free, err := availableMB("/proc/meminfo")
	if err != nil {
		return 0 // the minimum
	}
	return min(maxCodeMB, (free/hosts-machine.MemoryMB)/2)
}

// existingParent returns path, or its nearest parent directory that exists.
func existingParent(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// availableMB reads MemAvailable, which is in kB (proc(5)).
func availableMB(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read the free memory: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var kb int
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kb); err == nil {
			return kb >> 10, nil
		}
	}
	return 0, fmt.Errorf("cannot read the free memory: %s has no MemAvailable", path)
}

package nspawn

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// systemd-nspawn --keep-unit makes the control groups "payload" and
// "supervisor" inside its own: two of them in one group would end each other's
// processes. So each machine gets a group of its own.

// cgroupDirs are this process's folders in the hierarchies that systemd uses:
// version 2's, and where it is beside version 1, systemd's named one.
func cgroupDirs() []string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	var dirs []string
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		if mount := cgroupMount(string(mounts), fields[1]); mount != "" {
			dirs = append(dirs, filepath.Join(mount, fields[2]))
		}
	}
	return dirs
}

// cgroupMount finds where a hierarchy is mounted: "" is version 2.
func cgroupMount(mounts, hierarchy string) string {
	for line := range strings.Lines(mounts) {
		place, kind, found := strings.Cut(line, " - ")
		where, what := strings.Fields(place), strings.Fields(kind)
		if !found || len(where) < 5 || len(what) < 3 {
			continue
		}
		if hierarchy == "" && what[0] == "cgroup2" || what[0] == "cgroup" && slices.Contains(strings.Split(what[2], ","), hierarchy) {
			return where[4]
		}
	}
	return ""
}

// newCgroups makes a group in each hierarchy.
func newCgroups(name string) ([]string, error) {
	var made []string
	for _, dir := range cgroupDirs() {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return made, err
		}
		made = append(made, path)
	}
	return made, nil
}

// removeCgroup removes a group and those in it, as soon as the kernel has
// buried their last processes.
func removeCgroup(path string) error {
	var err error
	for range 100 {
		if err = removeEmpty(path); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func removeEmpty(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeEmpty(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(path)
}

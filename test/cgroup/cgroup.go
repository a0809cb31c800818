// Package cgroup creates a control group for each machine of systemd-nspawn. With
// --keep-unit, systemd-nspawn creates the groups "payload" and "supervisor" inside
// the group of its parent. Two machines in the same group would kill each other's
// processes.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Group is a control group: its directory in each hierarchy.
type Group []string

// dirs returns this process's directories in the hierarchies that systemd uses:
// version 2 and, on a hybrid system, the named hierarchy of systemd.
func dirs() []string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	var list []string
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		if dir := mountPoint(string(mounts), fields[1]); dir != "" {
			list = append(list, filepath.Join(dir, fields[2]))
		}
	}
	return list
}

// mountPoint returns the mount point of a hierarchy. The name "" is version 2.
func mountPoint(mounts, hierarchy string) string {
	for line := range strings.Lines(mounts) {
		before, after, found := strings.Cut(line, " - ")
		mount, source := strings.Fields(before), strings.Fields(after)
		if !found || len(mount) < 5 || len(source) < 3 {
			continue
		}
		if hierarchy == "" && source[0] == "cgroup2" || source[0] == "cgroup" && slices.Contains(strings.Split(source[2], ","), hierarchy) {
			return mount[4]
		}
	}
	return ""
}

// New creates a group. If it fails, it leaves nothing behind.
func New(name string) (Group, error) {
	var made Group
	for _, dir := range dirs() {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot create the control group %s: %w", name, err), made.Remove())
		}
		made = append(made, path)
	}
	return made, nil
}

// Find returns the groups whose names match a pattern of filepath.Match.
func Find(pattern string) []Group {
	var all []Group
	for _, dir := range dirs() {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // fails only for a malformed pattern
		for _, path := range found {
			all = append(all, Group{path})
		}
	}
	return all
}

// Command returns a command that runs in the group.
func (g Group) Command(name string, args ...string) *exec.Cmd {
	line := append([]string{"-c", enter, "sh"}, g...)
	line = append(line, "--", name)
	return exec.Command("sh", append(line, args...)...)
}

// enter moves its process into the groups before --, and then executes the
// command after --.
const enter = `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"`

// Remove removes the group and its subgroups.
func (g Group) Remove() error {
	var all []error
	for _, path := range g {
		all = append(all, remove(path))
	}
	return errors.Join(all...)
}

// remove removes a group and its subgroups. It retries for 30 s, because the kernel
// needs some time to remove the last processes, more on a busy machine.
func remove(path string) error {
	var err error
	for range 1500 {
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

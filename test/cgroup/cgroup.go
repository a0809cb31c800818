// Package cgroup gives each machine of systemd-nspawn a control group of its
// own: with --keep-unit it makes the groups "payload" and "supervisor" inside
// that of its parent, and two of them in one group would end each other's
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

// Group is one group in each hierarchy.
type Group []string

// dirs are this process's folders in the hierarchies that systemd uses:
// version 2's, and where it is beside version 1, systemd's named one.
func dirs() []string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	var list []string
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		if at := mount(string(mounts), fields[1]); at != "" {
			list = append(list, filepath.Join(at, fields[2]))
		}
	}
	return list
}

// mount finds where a hierarchy is mounted: "" is version 2.
func mount(mounts, hierarchy string) string {
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

// New makes a group, or nothing.
func New(name string) (Group, error) {
	var made Group
	for _, dir := range dirs() {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot make the control group %s: %w", name, err), made.Remove())
		}
		made = append(made, path)
	}
	return made, nil
}

// Find lists the groups that are there, by a pattern of filepath.Match for
// their names.
func Find(pattern string) []Group {
	var all []Group
	for _, dir := range dirs() {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is right
		for _, path := range found {
			all = append(all, Group{path})
		}
	}
	return all
}

// Command is a command that runs in the group.
func (g Group) Command(name string, args ...string) *exec.Cmd {
	line := append([]string{"-c", enter, "sh"}, g...)
	line = append(line, "--", name)
	return exec.Command("sh", append(line, args...)...)
}

// enter moves its process into the groups that are named before --, and makes
// it the command that is named after it.
const enter = `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"`

// Remove removes the group and those in it.
func (g Group) Remove() error {
	var all []error
	for _, path := range g {
		all = append(all, remove(path))
	}
	return errors.Join(all...)
}

// remove removes a group and those in it, as soon as the kernel has
// buried their last processes.
func remove(path string) error {
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

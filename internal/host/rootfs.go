package host

import (
	"slices"
	"strings"
)

// RootInMemory reports whether the next boot loses the root file system: it is
// in memory, or it is an overlay whose upper directory is (a live root).
func (h *Host) RootInMemory() bool {
	data, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	mounts := parseMounts(string(data))
	root := mountOf(mounts, "/")
	if root.fsType != "overlay" {
		return inMemory(root)
	}
	for _, option := range strings.Split(root.options, ",") {
		if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
			return inMemory(mountOf(mounts, upper))
		}
	}
	return true // an overlay without an upper directory is read-only
}

// mount is one line of /proc/self/mountinfo (proc(5)).
type mount struct{ point, fsType, options string }

func inMemory(m mount) bool { return slices.Contains([]string{"tmpfs", "ramfs", "rootfs"}, m.fsType) }

func parseMounts(text string) []mount {
	var all []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if ok && len(left) > 4 && len(right) > 2 {
			all = append(all, mount{point: left[4], fsType: right[0], options: right[2]})
		}
	}
	return all
}

// mountOf returns the mount that contains path: the one with the longest mount
// point, and the last of several on the same mount point.
func mountOf(mounts []mount, path string) mount {
	var best mount
	for _, m := range mounts {
		prefix := strings.TrimSuffix(m.point, "/") + "/"
		if strings.HasPrefix(path+"/", prefix) && len(m.point) >= len(best.point) {
			best = m
		}
	}
	return best
}

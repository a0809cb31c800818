package host

import (
	"slices"
	"strings"
)

// RootInMemory tells whether the root file system is lost with the next boot: it
// is one of memory, or an overlay whose changes go there (a live root).
func (h *Host) RootInMemory() bool {
	data, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	mounts := parseMounts(string(data))
	root := mountOf(mounts, "/")
	if root.kind != "overlay" {
		return inMemory(root)
	}
	for _, option := range strings.Split(root.options, ",") {
		if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
			return inMemory(mountOf(mounts, upper))
		}
	}
	return true // an overlay without an upper folder cannot be changed at all
}

// mounted is one line of /proc/self/mountinfo (proc(5)).
type mounted struct{ at, kind, options string }

func inMemory(m mounted) bool { return slices.Contains([]string{"tmpfs", "ramfs", "rootfs"}, m.kind) }

func parseMounts(text string) []mounted {
	var all []mounted
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		of, rest := strings.Fields(before), strings.Fields(after)
		if ok && len(of) > 4 && len(rest) > 2 {
			all = append(all, mounted{at: of[4], kind: rest[0], options: rest[2]})
		}
	}
	return all
}

// mountOf is the mount that a path lies on: the deepest one, and of several at
// one place the last.
func mountOf(mounts []mounted, path string) mounted {
	var best mounted
	for _, m := range mounts {
		prefix := strings.TrimSuffix(m.at, "/") + "/"
		if strings.HasPrefix(path+"/", prefix) && len(m.at) >= len(best.at) {
			best = m
		}
	}
	return best
}

package state

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// foreignFiles lists what is set aside on a clone. The marker is moved last, and
// the record of a host that left before it: until then the next command
// recognizes that the other files are foreign.
//
// adapter.json stays: it describes the cluster's network, and nothing in it is of one
// machine. If Docker starts before the stage pool writes the file, it gives up the
// containers on that network. The stage pool replaces the file of another cluster.
func foreignFiles() []string {
	return append(BakedIdentity(), ManifestPath, EffectivePath, RetiredPath, JournalPath, LeftPath, MarkerPath)
}

// setAsideForeign moves another machine's state to a new directory under
// ForeignDir and returns the directory. Nothing is lost, and the next run starts
// from the beginning.
func setAsideForeign(h *host.Host, foreign Machine, now time.Time) (string, error) {
	owner := Machine{boundedID(foreign.MachineID), boundedID(foreign.ProductUUID)}
	dir := fmt.Sprintf("%s/%s-%s", ForeignDir, now.UTC().Format("20060102T150405Z"), owner)
	if err := h.MkdirAll(dir); err != nil {
		return "", err
	}
	for _, path := range foreignFiles() {
		if !h.Exists(path) {
			continue
		}
		if err := setAsideFile(h, path, dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// setAsideFile copies a file, because /etc may be another file system, and
// removes it. A state file that cannot be read is renamed.
func setAsideFile(h *host.Host, path, dir string) error {
	if h.Readlink(path) != "" {
		return h.Remove(path) // its target is set aside on its own
	}
	data, found, err := read(h, path)
	if err != nil && filepath.Dir(path) == Dir {
		return h.Rename(path, dir+"/"+filepath.Base(path))
	}
	if err != nil || !found {
		return err
	}
	if err := h.WriteFile(dir+"/"+filepath.Base(path), data, private); err != nil {
		return err
	}
	return h.Remove(path)
}

// SealFile removes one of the state files from an image or from this machine
// (Seal). The marker is removed first: if seal is interrupted, the host is not
// complete. The event is legal in every state, so it reads no file.
func SealFile(h *host.Host, path string) error {
	for _, p := range []string{MarkerPath, path} {
		if !h.Exists(p) {
			continue
		}
		if err := h.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

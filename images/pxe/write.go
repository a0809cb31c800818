package pxe

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// Result lists what Write did, as paths below the directory.
type Result struct {
	Written   []string `json:"written"`
	Unchanged []string `json:"same"`
	Removed   []string `json:"removed"` // of hosts that are no longer in the list
}

// mode returns the file's mode. The web server runs as another user; it reads secrets
// through the file's group.
func (f File) mode() fs.FileMode {
	if f.Secret {
		return 0o640
	}
	return 0o644
}

// Write writes the files to the directory, each atomically. It removes the files of
// hosts that are no longer in the list. Previous configurations stay, for hosts that
// are booting.
func Write(dir string, files []File) (Result, error) {
	h := host.New("/")
	result := Result{Written: []string{}, Unchanged: []string{}, Removed: []string{}}
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		have, err := h.ReadFile(path)
		if err == nil && bytes.Equal(have, f.Data) {
			result.Unchanged = append(result.Unchanged, f.Path)
			continue
		}
		if err := h.WriteFile(path, f.Data, f.mode()); err != nil {
			return result, err
		}
		result.Written = append(result.Written, f.Path)
	}
	return result, removeStale(h, dir, files, &result)
}

// removeStale removes files of hosts that were in an earlier list.
func removeStale(h *host.Host, dir string, files []File, result *Result) error {
	for _, subdir := range []string{"hosts", "matchbox/groups", "matchbox/profiles", "matchbox/ignition"} {
		names, err := h.ReadDir(filepath.Join(dir, subdir))
		if err != nil {
			return err
		}
		for _, name := range names {
			path := subdir + "/" + name
			known := slices.ContainsFunc(files, func(f File) bool { return f.Path == path })
			if known || !strings.HasPrefix(name, prefix) {
				continue
			}
			if err := h.Remove(filepath.Join(dir, path)); err != nil {
				return err
			}
			result.Removed = append(result.Removed, path)
		}
	}
	return nil
}

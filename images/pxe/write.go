package pxe

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// Result is what Write did to the folder, as paths below it.
type Result struct {
	Written []string `json:"written"`
	Same    []string `json:"same"`
	Removed []string `json:"removed"` // of hosts that are in the list no more
}

// mode is a file's: a server reads it as another user, and secrets only by
// its group.
func (f File) mode() fs.FileMode {
	if f.Secret {
		return 0o640
	}
	return 0o644
}

// Write makes the folder hold the files, each whole or not at all. Files of
// hosts that are no longer known go; configurations stay, for hosts that are
// booting.
func Write(dir string, files []File) (Result, error) {
	h := host.New("/")
	done := Result{Written: []string{}, Same: []string{}, Removed: []string{}}
	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		have, err := h.ReadFile(path)
		if err == nil && bytes.Equal(have, f.Data) {
			done.Same = append(done.Same, f.Path)
			continue
		}
		if err := h.WriteFile(path, f.Data, f.mode()); err != nil {
			return done, err
		}
		done.Written = append(done.Written, f.Path)
	}
	return done, clean(h, dir, files, &done)
}

// clean removes what an earlier list of hosts left.
func clean(h *host.Host, dir string, files []File, done *Result) error {
	for _, folder := range []string{"hosts", "matchbox/groups", "matchbox/profiles", "matchbox/ignition"} {
		names, err := h.ReadDir(filepath.Join(dir, folder))
		if err != nil {
			return err
		}
		for _, name := range names {
			path := folder + "/" + name
			known := slices.ContainsFunc(files, func(f File) bool { return f.Path == path })
			if known || !strings.HasPrefix(name, prefix) {
				continue
			}
			if err := h.Remove(filepath.Join(dir, path)); err != nil {
				return err
			}
			done.Removed = append(done.Removed, path)
		}
	}
	return nil
}

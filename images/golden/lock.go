package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// Pin is a sum that was found out.
type Pin struct {
	Key    string `json:"key"` // "calicoctl.sha256"
	SHA256 string `json:"sha256"`
	File   string `json:"file"` // the source that gets it
}

// LockedFile is a source with the sums that it lacked.
type LockedFile struct {
	Name    string
	Text    []byte
	Private bool // it holds secrets: not to be shown
}

// Lock writes the sums of a bundle's artifacts into the sources that name
// their urls; a source that has them all comes back as it is. read reads a
// source by its name.
func Lock(loaded *config.Loaded, artifacts []Artifact, bundle *artifact.Bundle, read func(name string) ([]byte, error)) ([]Pin, []LockedFile, error) {
	var pins []Pin
	var names []string
	sums := map[string]map[string]string{} // source → section → sum
	for _, a := range artifacts {
		if a.URL == "" {
			continue
		}
		name := source(loaded, a.Section)
		if sums[name] == nil {
			sums[name] = map[string]string{}
			names = append(names, name)
		}
		i := slices.IndexFunc(bundle.Entries, func(e artifact.Entry) bool { return e.Name == a.Name })
		if a.SHA256 == "" && i >= 0 {
			sums[name][a.Section] = bundle.Entries[i].SHA256
			pins = append(pins, Pin{a.Section + ".sha256", bundle.Entries[i].SHA256, name})
		}
	}
	var files []LockedFile
	for _, name := range names {
		text, err := read(name)
		if err != nil {
			return pins, nil, byHand(fmt.Errorf("cannot lock %s: %w", name, err), pins)
		}
		s := config.Source{Name: name, Data: text}
		locked, err := config.Pin(s, sums[name])
		if err != nil {
			return pins, nil, byHand(err, pins)
		}
		files = append(files, LockedFile{name, locked, config.MayHoldSecrets(s)})
	}
	return pins, files, nil
}

// byHand says what to write where firstboot cannot.
func byHand(err error, pins []Pin) error {
	var lines []string
	for _, p := range pins {
		lines = append(lines, p.Key+": "+p.SHA256)
	}
	return engine.WithHint(err, "set %s", strings.Join(lines, ", "))
}

// Rewrite replaces a file whole, keeping its mode and owner; a symbolic link
// stays one.
func Rewrite(path string, data []byte) error {
	fail := func(err error) error { return fmt.Errorf("cannot write %s: %w", path, err) }
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fail(err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return fail(err)
	}
	f, err := renameio.NewPendingFile(real, renameio.WithTempDir(filepath.Dir(real)), renameio.WithStaticPermissions(info.Mode().Perm()))
	if err != nil {
		return fail(err)
	}
	defer func() { _ = f.Cleanup() }() // of what was not put into place
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return fail(err)
		}
	}
	if _, err := f.Write(data); err != nil {
		return fail(err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fail(err)
	}
	return nil
}

// source is where a section's sum belongs: where one stands in vain (sha256:
// ""), else where the url is.
func source(loaded *config.Loaded, section string) string {
	if s := loaded.SourceOf(section + ".sha256"); s != "" && s != "default" {
		return s
	}
	return loaded.SourceOf(section + ".url")
}

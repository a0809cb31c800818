package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// Pin is a digest to set in a configuration source.
type Pin struct {
	Key    string `json:"key"` // "calicoctl.sha256"
	SHA256 string `json:"sha256"`
	File   string `json:"file"` // the source to set it in
}

// LockedFile is a configuration source with its missing digests set.
type LockedFile struct {
	Name   string
	Text   []byte
	Secret bool // holds secrets: never shown
}

// Lock sets the digests of a bundle's artifacts in the sources that name their
// URLs. It returns the text of each such source; one that lacks no digest is
// unchanged. read reads a source by its name.
func Lock(loaded *config.Loaded, artifacts []Artifact, bundle *artifact.Bundle, read func(name string) ([]byte, error)) ([]Pin, []LockedFile, error) {
	var pins []Pin
	var names []string
	digests := map[string]map[string]string{} // source → section → digest
	for _, a := range artifacts {
		if a.URL == "" {
			continue
		}
		name := source(loaded, a.Section)
		if digests[name] == nil {
			digests[name] = map[string]string{}
			names = append(names, name)
		}
		i := slices.IndexFunc(bundle.Entries, func(e artifact.Entry) bool { return e.Name == a.Name })
		if a.SHA256 == "" && i >= 0 {
			digests[name][a.Section] = bundle.Entries[i].SHA256
			pins = append(pins, Pin{a.Section + ".sha256", bundle.Entries[i].SHA256, name})
		}
	}
	var files []LockedFile
	for _, name := range names {
		text, err := read(name)
		if err != nil {
			return pins, nil, withManualHint(fmt.Errorf("cannot lock %s: %w", name, err), pins)
		}
		s := config.Source{Name: name, Data: text}
		locked, err := config.Pin(s, digests[name])
		if err != nil {
			return pins, nil, withManualHint(err, pins)
		}
		files = append(files, LockedFile{name, locked, config.MayHoldSecrets(s)})
	}
	return pins, files, nil
}

// withManualHint adds a hint that lists the digests to set by hand.
func withManualHint(err error, pins []Pin) error {
	var lines []string
	for _, p := range pins {
		lines = append(lines, p.Key+": "+p.SHA256)
	}
	return engine.WithHint(err, "set %s", strings.Join(lines, ", "))
}

// Rewrite replaces a file atomically and durably, and keeps its mode and owner. A
// symbolic link is followed. The options are for tests.
func Rewrite(path string, data []byte, options ...host.Option) error {
	fail := func(err error) error { return fmt.Errorf("cannot write %s: %w", path, err) }
	target, err := filepath.EvalSymlinks(path)
	if err == nil {
		target, err = filepath.Abs(target)
	}
	if err != nil {
		return fail(err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return fail(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if me := os.Geteuid(); ok && me != 0 && int(owner.Uid) != me {
		return fail(fmt.Errorf("it belongs to user %d", owner.Uid))
	}
	if err := host.New("/", options...).WriteFile(target, data, info.Mode().Perm()); err != nil || !ok {
		return err
	}
	if err := os.Lchown(target, int(owner.Uid), int(owner.Gid)); err != nil {
		return fail(err)
	}
	return nil
}

// source returns the source in which to set a section's digest: the one with an
// empty sha256 key, or else the one with the URL.
func source(loaded *config.Loaded, section string) string {
	if s := loaded.SourceOf(section + ".sha256"); s != "" && s != "default" {
		return s
	}
	return loaded.SourceOf(section + ".url")
}

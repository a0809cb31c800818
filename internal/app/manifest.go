package app

import (
	"errors"
	"maps"
	"strings"
	"sync"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// openRecordedHost opens the machine such that every file written on it is
// recorded in the manifest.
func (r *run) openRecordedHost() (*host.Host, error) {
	manifest, err := r.openManifest()
	if err != nil {
		return nil, withStateHint(err)
	}
	r.manifest = &runManifest{manifest: manifest, printf: r.console.Printf}
	return r.openHost(host.WithManifest(r.manifest)), nil
}

// openManifest opens the manifest. It sets a damaged one aside.
func (r *run) openManifest() (*state.Manifest, error) {
	manifest, err := state.OpenManifest(r.state)
	var damaged *state.DamagedError
	if !errors.As(err, &damaged) {
		return manifest, err
	}
	if err := state.SetAsideDamaged(r.state, damaged.Path); err != nil {
		return nil, err
	}
	r.printf("%v; it was renamed to %s, and the files that it listed are not in the new manifest", damaged, state.DamagedPath(damaged.Path))
	return state.OpenManifest(r.state)
}

// runManifest lists the files of a run in the manifest (host.Manifest), without
// firstboot's own. If the manifest cannot be written, it warns once.
type runManifest struct {
	manifest *state.Manifest
	printf   func(string, ...any)
	warnOnce sync.Once
}

// Record lists one file.
func (m *runManifest) Record(path, digest string) {
	if isListed(path) {
		m.warn(m.manifest.Record(path, digest))
	}
}

// Expect lists files that are about to be written.
func (m *runManifest) Expect(files map[string]string) {
	listed := maps.Clone(files)
	maps.DeleteFunc(listed, func(path, _ string) bool { return !isListed(path) })
	m.warn(m.manifest.Expect(listed))
}

func (m *runManifest) flush() { m.warn(m.manifest.Flush()) }

func (m *runManifest) warn(err error) {
	if err != nil {
		m.warnOnce.Do(func() { m.printf("warning: %v; the manifest of written files is incomplete", err) })
	}
}

func isListed(path string) bool {
	return !strings.HasPrefix(path, state.Dir+"/") && !strings.HasPrefix(path, "/run/")
}

package state

import (
	"maps"
	"slices"
	"sync"

	"github.com/projecteru2/firstboot/internal/host"
)

// Manifest lists the files that firstboot wrote outside of its own directories,
// with their digests, so that exactly these can be removed.
type Manifest struct {
	Schema int               `json:"schema"`
	Files  map[string]string `json:"files"` // path to sha256 in hexadecimal, or link:TARGET

	mu      sync.Mutex
	host    *host.Host // writes the manifest; the writes of this host are not recorded
	unsaved bool       // a removal is not saved yet
}

// OpenManifest reads the manifest. If it does not exist, the result is empty.
func OpenManifest(h *host.Host) (*Manifest, error) {
	m := &Manifest{host: h}
	if _, err := load(h, ManifestPath, m); err != nil {
		return nil, err
	}
	if m.Files == nil {
		m.Files = map[string]string{}
	}
	return m, nil
}

// check accepts every list of files.
func (m *Manifest) check() error { return nil }

// Record adds a file (host.WithManifest), or removes it if the digest is empty. An
// addition is saved at once: a file that is not listed is never removed. A removal
// is saved later: an entry without a file does no harm.
func (m *Manifest) Record(path, digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	have, listed := m.Files[path]
	switch {
	case listed == (digest != "") && have == digest:
		return nil
	case digest == "":
		delete(m.Files, path)
		m.unsaved = true
		return nil
	}
	m.Files[path] = digest
	return m.save()
}

// Expect adds files that are about to be written, with their digests, in one save.
// It does not change the entry of a file that is listed: until the file is
// replaced, the entry describes the present one.
func (m *Manifest) Expect(files map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	added := false
	for path, digest := range files {
		if _, listed := m.Files[path]; !listed {
			m.Files[path], added = digest, true
		}
	}
	if !added {
		return nil
	}
	return m.save()
}

// Flush saves what is not saved yet.
func (m *Manifest) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.unsaved {
		return nil
	}
	return m.save()
}

func (m *Manifest) save() error {
	m.Schema = Schema
	err := save(m.host, ManifestPath, m)
	m.unsaved = err != nil
	return err
}

// Paths returns the recorded paths, sorted.
func (m *Manifest) Paths() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.Files))
}

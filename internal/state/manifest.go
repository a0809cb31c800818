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

	mu   sync.Mutex
	host *host.Host // writes the manifest; the writes of this host are not recorded
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

// Record adds a file (host.WithManifest), or removes it if the digest is empty.
// The manifest is saved at once: a file that is not listed is never removed.
func (m *Manifest) Record(path, digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, ok := m.Files[path]; ok == (digest != "") && have == digest {
		return nil
	}
	if digest == "" {
		delete(m.Files, path)
	} else {
		m.Files[path] = digest
	}
	m.Schema = Schema
	return save(m.host, ManifestPath, m)
}

// Paths returns the recorded paths, sorted.
func (m *Manifest) Paths() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.Files))
}

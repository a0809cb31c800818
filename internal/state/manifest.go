package state

import (
	"maps"
	"slices"
	"sync"

	"github.com/projecteru2/firstboot/internal/host"
)

// Manifest is the manifest: every path that firstboot wrote outside of its own
// folders, with the digest of what it wrote, so that exactly these can be
// removed again.
type Manifest struct {
	Schema int               `json:"schema"`
	Files  map[string]string `json:"files"` // path to SHA-256 in hexadecimal, or link:TARGET

	mu   sync.Mutex
	host *host.Host // of the state folder; not the one whose writes are recorded
}

// OpenManifest reads the manifest, or begins one.
func OpenManifest(h *host.Host) (*Manifest, error) {
	w := &Manifest{host: h}
	if _, err := load(h, ManifestPath, w); err != nil {
		return nil, err
	}
	if w.Files == nil {
		w.Files = map[string]string{}
	}
	return w, nil
}

// Record notes one write (host.WithManifest); an empty digest forgets the
// path. The manifest is saved at once: a file that is written and not listed
// would never be removed.
func (w *Manifest) Record(path, digest string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if have, ok := w.Files[path]; ok == (digest != "") && have == digest {
		return nil
	}
	if digest == "" {
		delete(w.Files, path)
	} else {
		w.Files[path] = digest
	}
	w.Schema = Schema
	return save(w.host, ManifestPath, w)
}

// Paths lists the recorded paths, sorted.
func (w *Manifest) Paths() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.Files))
}

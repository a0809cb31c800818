package state

import (
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Marker is the completion marker: this machine was verified and complete at
// Finished. It is the last file that a run writes. Only Run.Commit writes one.
type Marker struct {
	Schema       int       `json:"schema"`
	Version      string    `json:"version"`
	ConfigDigest string    `json:"config_digest"`
	Machine      Machine   `json:"machine"`
	BootID       string    `json:"boot_id"`
	Started      time.Time `json:"started"`
	Finished     time.Time `json:"finished"`
	Previous     *Marker   `json:"previous,omitempty"` // the marker that this one replaced, without its own Previous
}

// check refuses a marker that names no machine: it would be valid on every
// machine.
func (m *Marker) check() error { return m.Machine.check() }

// loadMarker reads the marker at path; found is false if it does not exist.
func loadMarker(h *host.Host, path string) (m Marker, found bool, err error) {
	if found, err = load(h, path, &m); !found {
		return Marker{}, false, err
	}
	return m, true, nil
}

// LoadMarker reads the marker; found is false if it does not exist.
func LoadMarker(h *host.Host) (m Marker, found bool, err error) { return loadMarker(h, MarkerPath) }

// save writes the marker, with the retired one as Previous.
func (m *Marker) save(h *host.Host, retired *Marker) error {
	if retired != nil {
		before := *retired
		before.Previous = nil
		m.Previous = &before
	}
	m.Schema = Schema
	if err := save(h, MarkerPath, m); err != nil {
		return err
	}
	if h.Exists(RetiredPath) {
		return h.RemoveAll(RetiredPath)
	}
	return nil
}

// retireMarker makes the machine incomplete until a new marker is written. This
// holds even if the command that follows is killed.
func retireMarker(h *host.Host) error {
	if info, err := h.Stat(RetiredPath); err == nil && info.IsDir() {
		if err := SetAsideDamaged(h, RetiredPath); err != nil {
			return err
		}
	}
	return h.Rename(MarkerPath, RetiredPath)
}

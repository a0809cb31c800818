package state

import (
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Marker is the completion marker: this machine was verified and complete at
// Finished. It is the last file that a run writes.
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

// LoadMarker reads the marker; found is false if it does not exist.
func LoadMarker(h *host.Host) (m Marker, found bool, err error) {
	found, err = load(h, MarkerPath, &m)
	return m, found, err
}

// Save writes the marker and keeps the one that it replaces as Previous.
func (m *Marker) Save(h *host.Host) error {
	before, found, err := LoadMarker(h)
	if err == nil && !found {
		found, err = load(h, RetiredPath, &before)
	}
	if err == nil && found {
		before.Previous = nil
		m.Previous = &before
	}
	m.Schema = Schema
	if err := save(h, MarkerPath, m); err != nil {
		return err
	}
	if h.Exists(RetiredPath) {
		return h.Remove(RetiredPath)
	}
	return nil
}

// RetireMarker makes the machine incomplete until a new marker is written. This
// holds even if the run that follows is killed.
func RetireMarker(h *host.Host) error { return h.Rename(MarkerPath, RetiredPath) }

// RestoreMarker makes the retired marker the completion marker again.
func RestoreMarker(h *host.Host) error { return h.Rename(RetiredPath, MarkerPath) }

// LoadRetired reads the retired marker; found is false if it does not exist.
func LoadRetired(h *host.Host) (m Marker, found bool, err error) {
	found, err = load(h, RetiredPath, &m)
	return m, found, err
}

package state

import (
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Marker is the marker: this machine was complete, as verified, at
// Finished. It is the last file that a run writes.
type Marker struct {
	Schema       int       `json:"schema"`
	Version      string    `json:"version"`
	ConfigDigest string    `json:"config_digest"`
	Machine      Machine   `json:"machine"`
	BootID       string    `json:"boot_id"`
	Started      time.Time `json:"started"`
	Finished     time.Time `json:"finished"`
	Previous     *Marker   `json:"previous,omitempty"` // the one that this replaced, without its own previous
}

// LoadMarker reads the marker; found is false where there is none.
func LoadMarker(h *host.Host) (c Marker, found bool, err error) {
	found, err = load(h, MarkerPath, &c)
	return c, found, err
}

// Save writes the marker, keeping the one it replaces as Previous.
func (c *Marker) Save(h *host.Host) error {
	before, found, err := LoadMarker(h)
	if err == nil && !found {
		found, err = load(h, RetiredPath, &before)
	}
	if err == nil && found {
		before.Previous = nil
		c.Previous = &before
	}
	c.Schema = Schema
	if err := save(h, MarkerPath, c); err != nil {
		return err
	}
	if h.Exists(RetiredPath) {
		return h.Remove(RetiredPath)
	}
	return nil
}

// Retire puts the marker out of force: until a new one is written the machine
// is not complete, whenever the run that replaces it is cut off.
func RetireMarker(h *host.Host) error { return h.Rename(MarkerPath, RetiredPath) }

// Reinstate puts the retired marker into force again.
func RestoreMarker(h *host.Host) error { return h.Rename(RetiredPath, MarkerPath) }

// LoadRetired reads the retired marker; found is false where there is none.
func LoadRetired(h *host.Host) (c Marker, found bool, err error) {
	found, err = load(h, RetiredPath, &c)
	return c, found, err
}

package journal

import (
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// Completion is the marker: this machine was complete, as verified, at
// Finished. It is the last file that a run writes.
type Completion struct {
	Schema       int         `json:"schema"`
	Version      string      `json:"version"`
	ConfigDigest string      `json:"config_digest"`
	Machine      Machine     `json:"machine"`
	BootID       string      `json:"boot_id"`
	Started      time.Time   `json:"started"`
	Finished     time.Time   `json:"finished"`
	Previous     *Completion `json:"previous,omitempty"` // the one that this replaced, without its own previous
}

// LoadMarker reads the marker; found is false where there is none.
func LoadMarker(h *host.Host) (c Completion, found bool, err error) {
	found, err = load(h, Marker, &c)
	return c, found, err
}

// Save writes the marker, keeping the one it replaces as Previous.
func (c *Completion) Save(h *host.Host) error {
	before, found, err := LoadMarker(h)
	if err == nil && !found {
		found, err = load(h, Former, &before)
	}
	if err == nil && found {
		before.Previous = nil
		c.Previous = &before
	}
	c.Schema = Schema
	if err := save(h, Marker, c); err != nil {
		return err
	}
	if h.Exists(Former) {
		return h.Remove(Former)
	}
	return nil
}

// Retire puts the marker out of force: until a new one is written the machine
// is not complete, whenever the run that replaces it is cut off.
func Retire(h *host.Host) error { return h.Rename(Marker, Former) }

// Reinstate puts the retired marker into force again.
func Reinstate(h *host.Host) error { return h.Rename(Former, Marker) }

// LoadFormer reads the retired marker; found is false where there is none.
func LoadFormer(h *host.Host) (c Completion, found bool, err error) {
	found, err = load(h, Former, &c)
	return c, found, err
}

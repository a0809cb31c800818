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
	if before, found, err := LoadMarker(h); err == nil && found {
		before.Previous = nil
		c.Previous = &before
	}
	c.Schema = Schema
	return save(h, Marker, c)
}

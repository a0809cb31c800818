package stages

import (
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// The parts of an Apply's limit besides its downloads: on an emulated machine
// Docker took three minutes to load the node image, and rpm one minute.
const (
	loadLimit    = 15 * time.Minute
	installLimit = 10 * time.Minute
	// startLimit is for the unit's file and start, before calico-node can become
	// ready.
	startLimit = 3 * time.Minute
)

// The stages whose Apply fetches or waits for something that the configuration
// limits.
var (
	_ engine.Limited = calicoctl{}
	_ engine.Limited = docker{}
	_ engine.Limited = node{}
	_ engine.Limited = plugin{}
)

// ApplyLimit implements engine.Limited.
func (s calicoctl) ApplyLimit() time.Duration { return s.Config.Timeouts.Download + installLimit }

// ApplyLimit implements engine.Limited.
func (s docker) ApplyLimit() time.Duration { return s.Config.Timeouts.Download + loadLimit }

// ApplyLimit implements engine.Limited.
func (s node) ApplyLimit() time.Duration { return s.Config.Timeouts.Node + peerTimeout + startLimit }

// ApplyLimit implements engine.Limited.
func (s plugin) ApplyLimit() time.Duration { return s.Config.Timeouts.Download + installLimit }

package app

import (
	"errors"
	"sync"

	"github.com/projecteru2/firstboot/internal/engine"
)

// changes records from the events of a run whether it may have changed the
// machine. A stage that refuses has changed nothing.
type changes struct {
	mu      sync.Mutex
	applied map[string]int // number of calls of Apply, by stage
}

// Event records one event.
func (c *changes) Event(e engine.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var refusal *engine.Refusal
	switch {
	case e.Kind == engine.Applying:
		if c.applied == nil {
			c.applied = map[string]int{}
		}
		c.applied[e.Stage]++
	case e.Kind == engine.Failed && errors.As(e.Err, &refusal) && c.applied[e.Stage] == 1:
		delete(c.applied, e.Stage)
	}
}

// any reports whether a stage may have changed the machine.
func (c *changes) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.applied) > 0
}

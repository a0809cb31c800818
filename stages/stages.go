// Package stages is what a host becomes: the ordered list, and one file a
// stage. A stage looks at the live machine and never believes that a command
// which exited 0 did its work.
package stages

import "github.com/projecteru2/firstboot/internal/engine"

// All is what a host becomes, in the order that people are shown. A stage
// starts as soon as those that it comes after are done.
func All(e *Env) []engine.Stage {
	return []engine.Stage{
		preflight{e}, // refuse before anything is changed
		sysctl{e},    // after preflight
		calicoctl{e}, // after preflight
		files{e},     // after preflight; shown as "config"
		docker{e},    // after config
		node{e},      // after docker, calicoctl, sysctl
		minions{e},   // after config
		pool{e},      // after node, minions
		verify{e},    // after pool
	}
}

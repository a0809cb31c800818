// Package stages holds the stages of a host's provisioning: the ordered list
// and one file for each stage. A stage checks the live machine. It never relies
// on the exit status of a command as proof that the command did its work.
package stages

import "github.com/projecteru2/firstboot/internal/engine"

// All returns the stages in the order of the output. A stage starts as soon as
// the stages that it comes after are done.
func All(e *Env) []engine.Stage {
	return []engine.Stage{
		preflight{e},    // before all others; changes nothing
		sysctl{e},       // after preflight
		calicoctl{e},    // after preflight
		files{e},        // after preflight; shown as "config"
		docker{e},       // after config
		node{e},         // after docker, calicoctl, sysctl
		plugin{e},       // after config; shown as "minions"
		adapterStage{e}, // after minions; only for a local network
		pool{e},         // after docker, calicoctl, minions, adapter
		verify{e},       // after pool, sysctl; waits for calico-node
	}
}

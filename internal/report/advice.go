package report

import (
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// Advice is what happens next, and what a person can type.
type Advice struct {
	Next string   `json:"next,omitempty"`
	Type []string `json:"type,omitempty"`
}

// again runs firstboot once more by its service and, with success, reaches the
// target that workloads wait for.
const again = "systemctl start " + units.Target

// forced applies an edited configuration, then what again does.
const forced = "firstboot run --force && " + again

// Facts are what advice depends on beside the state.
type Facts struct {
	Invalid   bool // the configuration stopped the run: nothing was saved of it, so an edit is read at once
	Untouched bool // no stage has changed anything
	Disabled  bool // no boot starts the run: the host has left, or was never told to join
}

// Advise says what follows from a state.
func Advise(st state.State, facts Facts) Advice {
	switch st {
	case state.Running:
		return Advice{"the run goes on by itself", []string{"firstboot status --wait", "journalctl -fu " + units.Service}}
	case state.Refused:
		next := "the next boot tries again"
		if facts.Untouched {
			next = "nothing was changed; " + next
		}
		return Advice{next, []string{again + "   (after the fix)", forced + "   (after an edit of /etc/firstboot)"}}
	case state.Failed:
		if facts.Invalid {
			return Advice{"the next boot reads the configuration again",
				[]string{"firstboot validate", again}}
		}
		return Advice{"the next boot goes on from here",
			[]string{again + "   (to go on now)", forced + "   (after an edit of /etc/firstboot)"}}
	case state.NotStarted:
		if facts.Disabled {
			return Advice{"nothing: " + units.Service + " is not enabled", []string{"systemctl enable --now " + units.Service + " " + units.Target + "   (to join)"}}
		}
		return Advice{units.Service + " starts the run at boot", []string{again + "   (to start it now)"}}
	case state.Drifted:
		return Advice{"nothing is changed by itself", []string{"firstboot plan --force", "firstboot run --force"}}
	case state.Foreign:
		return Advice{"the next boot sets that state aside and starts from nothing", []string{again + "   (to start it now)"}}
	case state.Unknown:
		return Advice{"nothing is changed by itself", []string{"firstboot status   (as root, once what is named above answers)"}}
	}
	return Advice{}
}

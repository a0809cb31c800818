package report

import (
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// Advice states what happens next and what a person can type.
type Advice struct {
	Next string   `json:"next,omitempty"`
	Type []string `json:"type,omitempty"`
}

// startCommand runs firstboot by its service. On success it reaches the target
// that workloads wait for.
const startCommand = "systemctl start " + units.Target

// forceCommand applies an edited configuration, then does what startCommand
// does.
const forceCommand = "firstboot run --force && " + startCommand

// Facts are the inputs of Advise besides the state.
type Facts struct {
	Invalid   bool // the configuration is invalid: it was not saved, so the next run reads an edit
	Untouched bool // no stage has changed anything
	Disabled  bool // the unit is not enabled: the host has left, or was never to join
}

// Advise returns the advice for a state.
func Advise(st state.State, facts Facts) Advice {
	switch st {
	case state.Running:
		return Advice{"the run continues by itself", []string{"firstboot status --wait", "journalctl -fu " + units.Service}}
	case state.Refused:
		next := "the next boot tries again"
		if facts.Untouched {
			next = "nothing was changed; " + next
		}
		return Advice{next, []string{startCommand + "   (after the fix)", forceCommand + "   (after an edit of /etc/firstboot)"}}
	case state.Failed:
		if facts.Invalid {
			return Advice{"the next boot reads the configuration again",
				[]string{"firstboot validate", startCommand}}
		}
		return Advice{"the next boot continues from here",
			[]string{startCommand + "   (to continue now)", forceCommand + "   (after an edit of /etc/firstboot)"}}
	case state.NotStarted:
		if facts.Disabled {
			return Advice{units.Service + " is not enabled", []string{"systemctl enable --now " + units.Service + " " + units.Target + "   (to join)"}}
		}
		return Advice{units.Service + " starts the run at boot", []string{startCommand + "   (to start it now)"}}
	case state.Drifted:
		return Advice{"firstboot changes nothing by itself", []string{"firstboot plan --force", "firstboot run --force"}}
	case state.Foreign:
		return Advice{"the next boot sets that state aside and starts over", []string{startCommand + "   (to start it now)"}}
	case state.Unknown:
		return Advice{"firstboot changes nothing by itself", []string{"firstboot status   (as root, after fixing the cause above)"}}
	}
	return Advice{}
}

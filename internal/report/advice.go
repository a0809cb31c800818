package report

import (
	"strings"

	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// Advice states what happens next and what a person can type.
type Advice struct {
	Next string    `json:"next,omitempty"`
	Type []Command `json:"type,omitempty"`
}

// Command is a command line that a person can type. As JSON it is only the
// command line.
type Command struct {
	Line string
	When string // "after the fix"; "" if there is no condition
}

// MarshalText returns the command line.
func (c Command) MarshalText() ([]byte, error) { return []byte(c.Line), nil }

// startCommand runs firstboot by its service. On success it reaches the target
// that workloads wait for.
const startCommand = "systemctl start " + units.Target

// forceCommand applies an edited configuration, then does what startCommand
// does.
const forceCommand = "firstboot run --force && " + startCommand

// JoinCommand makes a host that left join again, now and at later boots.
const JoinCommand = "systemctl enable --now " + units.Service + " " + units.Target

// Facts are the inputs of Advise besides the state.
type Facts struct {
	Invalid   bool   // the configuration is invalid: it was not saved, so the next run reads an edit
	Untouched bool   // no stage has changed anything
	Disabled  bool   // the unit is not enabled: the host has left, or was never to join
	Failed    string // the first stage that failed, or ""
	Root      string // the root directory that was examined; "" for the running machine
}

// Advise returns the advice for a state.
func Advise(st state.State, facts Facts) Advice {
	if facts.Root != "" {
		return adviseRoot(st, facts)
	}
	afterEdit := Command{forceCommand, "after an edit of /etc/firstboot"}
	switch st {
	case state.Running:
		next := "the run continues by itself"
		if facts.Failed != "" {
			next = "this run will fail, because " + facts.Failed + " failed; the other stages are being finished"
		}
		return Advice{next, []Command{{Line: "firstboot status --wait"}, {Line: "journalctl -fu " + units.Service}}}
	case state.Refused:
		return Advice{nextBoot(st, facts), []Command{{startCommand, "after the fix"}, afterEdit}}
	case state.Failed:
		if facts.Invalid {
			return Advice{nextBoot(st, facts), []Command{{Line: "firstboot validate"}, {Line: startCommand}}}
		}
		return Advice{nextBoot(st, facts), []Command{{startCommand, "to continue now"}, afterEdit}}
	case state.NotStarted:
		if facts.Disabled {
			return Advice{nextBoot(st, facts), []Command{{JoinCommand, "to join"}}}
		}
		return Advice{nextBoot(st, facts), []Command{{startCommand, "to start it now"}}}
	case state.Left:
		if facts.Disabled {
			return Advice{nextBoot(st, facts), []Command{{JoinCommand, "to join again"}}}
		}
		return Advice{nextBoot(st, facts), []Command{{startCommand, "to join again now"}}}
	case state.Drifted:
		return Advice{"firstboot changes nothing by itself", []Command{{Line: "firstboot plan --force"}, {Line: "firstboot run --force"}}}
	case state.Foreign:
		return Advice{nextBoot(st, facts), []Command{{startCommand, "to start it now"}}}
	case state.Unknown:
		return Advice{"firstboot changes nothing by itself", []Command{{"firstboot status", "as root, after fixing the cause above"}}}
	}
	return Advice{}
}

// adviseRoot returns the advice for the files of a machine that does not run.
// Commands about the running machine would act on another one.
func adviseRoot(st state.State, facts Facts) Advice {
	firstboot := func(command, when string) []Command {
		return []Command{{"firstboot " + command + " --root " + quote(facts.Root), when}}
	}
	switch st {
	case state.NotStarted:
		if facts.Disabled {
			return Advice{nextBoot(st, facts), firstboot("bake", "to enable it")}
		}
		return Advice{nextBoot(st, facts), firstboot("plan", "")}
	case state.Failed, state.Refused:
		if facts.Invalid {
			return Advice{nextBoot(st, facts), firstboot("validate", "")}
		}
		return Advice{nextBoot(st, facts), nil}
	case state.Left:
		return Advice{nextBoot(st, facts), nil}
	case state.Foreign:
		return Advice{nextBoot(st, facts), firstboot("seal", "to remove it now")}
	case state.Unknown:
		return Advice{"", firstboot("status", "as root, after fixing the cause above")}
	}
	return Advice{}
}

// nextBoot describes what the next boot does in a state.
func nextBoot(st state.State, facts Facts) string {
	switch st {
	case state.Refused:
		if facts.Untouched {
			return "nothing was changed; the next boot tries again"
		}
		return "the next boot tries again"
	case state.Failed:
		if facts.Invalid {
			return "the next boot reads the configuration again"
		}
		return "the next boot continues from here"
	case state.NotStarted:
		if facts.Disabled {
			return units.Service + " is not enabled"
		}
		return units.Service + " starts the run at boot"
	case state.Foreign:
		return "the next boot sets that state aside and starts over"
	case state.Left:
		if facts.Disabled {
			return units.Service + " is not enabled: this host stays out of the network"
		}
		return units.Service + " is enabled: the next boot joins again"
	}
	return ""
}

// quote quotes a word for a shell if necessary.
func quote(word string) string {
	plain := strings.IndexFunc(word, func(r rune) bool {
		return !strings.ContainsRune("/._-+:@%,=", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
	if plain && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// writeAdvice writes what happens next and what to type. A command is never
// wrapped, so that it can be copied.
func writeAdvice(b *strings.Builder, a Advice, width int) {
	if a.Next != "" {
		wrap(b, "", "next: "+a.Next, width)
	}
	for i, command := range a.Type {
		label := "type: "
		if i > 0 {
			label = "  or: "
		}
		b.WriteString(label + command.Line)
		if command.When != "" {
			b.WriteString("   (" + command.When + ")")
		}
		b.WriteByte('\n')
	}
}

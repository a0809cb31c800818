package app

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// withStateHint adds a hint to the error of a state file.
func withStateHint(err error) error {
	var newer *state.NewerError
	switch {
	case errors.As(err, &newer):
		return engine.WithHint(err, "it was written by a newer firstboot; use that version")
	case errors.Is(err, state.ErrNoIdentity):
		return engine.WithHint(err, "systemd-machine-id-setup creates one")
	case errors.Is(err, fs.ErrPermission):
		return engine.WithHint(err, "only root can read this: sudo firstboot …")
	}
	return err
}

// printSetAside prints that a damaged record of leaving was renamed.
func printSetAside(printf func(string, ...any), d *state.DamagedError) {
	if d != nil {
		printf("%v; it was renamed to %s", d, state.DamagedPath(d.Path))
	}
}

// LeftError reports that the service started a run on a host that left. A boot
// does not make it join again.
type LeftError struct{ State state.State }

func (e *LeftError) Error() string {
	if e.State == state.Leaving {
		return "this host was leaving the network when firstboot leave was interrupted; a boot does not join it again"
	}
	return "this host has left the network; a boot does not join it again"
}

// Hint returns what a person can do.
func (e *LeftError) Hint() string {
	if e.State == state.Leaving {
		return "to continue: firstboot leave; to join again: firstboot run"
	}
	return "to join again: " + report.JoinCommand
}

// startEvent returns what this run means for a host in state st. Selected stages
// never decide about a host that is complete or that left.
func (r *run) startEvent(st state.State) state.Event {
	left := st == state.Left || st == state.Leaving
	selected := len(r.o.Stages) > 0
	switch {
	case selected && (len(r.names) < len(r.stages) || left || st == state.Complete && !r.o.Force):
		return state.StartSelected
	case r.o.Force:
		return state.StartForced
	case startedByService(r.state) && (st != state.Left || !enabledByAdmin(r.state)):
		return state.StartAtBoot
	}
	return state.StartRun
}

// startedByService reports whether systemd started this process as
// firstboot.service, at boot or because a unit needs it. A person who types
// firstboot run is in the control group of a session.
func startedByService(h *host.Host) bool {
	data, err := h.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasSuffix(strings.TrimSpace(line), "/"+units.Service) {
			return true
		}
	}
	return false
}

// enabledByAdmin reports whether a person enabled the service: leave removes the
// link that systemctl enable makes.
func enabledByAdmin(h *host.Host) bool { return h.Exists(units.AdminDir + serviceLink()) }

// enabled reports whether a boot starts the run. systemctl makes the link in
// AdminDir, the maker of an image may make it in Dir.
func enabled(h *host.Host) bool { return enabledByAdmin(h) || h.Exists(units.Dir+serviceLink()) }

func serviceLink() string { return "/" + units.Enabled()[units.Service] + ".wants/" + units.Service }

// lastSetAside returns the directory of the last state that was set aside, or "".
func lastSetAside(h *host.Host) string {
	names, err := h.ReadDir(state.ForeignDir)
	if err != nil || len(names) == 0 {
		return ""
	}
	return state.ForeignDir + "/" + names[len(names)-1]
}

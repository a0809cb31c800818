package app

import (
	"context"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// unitNote returns what systemd reports to every user about the run. It is used
// if only root can read the state of this host.
func (m *machine) unitNote() string {
	ctx, cancel := context.WithTimeout(context.Background(), unitTimeout)
	defer cancel()
	unit, err := m.openHost().Systemd().Unit(ctx, units.Service)
	if err != nil {
		return err.Error()
	}
	return describeUnit(unit)
}

// describeUnit describes the run of this boot by the state of its unit.
func describeUnit(unit host.UnitState) string {
	if unit.Load == "not-found" {
		return units.Service + " is not installed"
	}
	text := units.Service + " is " + unit.Active
	if !unit.Since.IsZero() && unit.Active == "active" {
		text += " since " + unit.Since.UTC().Format(time.RFC3339)
	}
	switch {
	case unit.Active == "activating":
		return text + ": a run is in progress"
	case unit.Active == "active":
		return text + ": the run of this boot ended without an error"
	case unit.Active == "failed":
		return text + ": the run of this boot failed or was refused"
	case unit.FileState != "enabled":
		return text + " and not enabled: this host does not join at a boot"
	}
	return text + ": no run has started in this boot"
}

package app

import (
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

func TestUnitDescribesTheRunToEveryUser(t *testing.T) {
	since := time.Date(2025, 1, 1, 0, 3, 0, 0, time.UTC)
	for want, unit := range map[string]host.UnitState{
		"firstboot.service is activating: a run is in progress":                                               {Active: "activating"},
		"firstboot.service is active since 2025-01-01T00:03:00Z: the run of this boot ended without an error": {Active: "active", Since: since},
		"firstboot.service is failed: the run of this boot failed or was refused":                             {Active: "failed", Since: since},
		"firstboot.service is inactive: no run has started in this boot":                                      {Active: "inactive", FileState: "enabled"},
		"firstboot.service is inactive and not enabled: this host does not join at a boot":                    {Active: "inactive", FileState: "disabled"},
		"firstboot.service is not installed":                                                                  {Load: "not-found", Active: "inactive"},
	} {
		if got := describeUnit(unit); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

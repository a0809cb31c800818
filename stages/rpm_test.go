package stages_test

import (
	"testing"

	"github.com/projecteru2/firstboot/internal/engine"
)

func TestHalfMadeRPMDatabaseIsRepaired(t *testing.T) {
	m := newMachine(t)
	m.rpmFails = "error: sqlite failure: CREATE TABLE IF NOT EXISTS 'Enhancename': attempt to write a readonly database\n" +
		"error: cannot open Packages database in /root/.rpmdb"
	if err := m.apply(t.Context(), "minions"); !isA[*engine.Retry](err) {
		t.Errorf("got %v", err)
	}
	if repairs := m.taken("command rpm --initdb"); len(repairs) != 1 {
		t.Errorf("repaired %d times: %q", len(repairs), m.taken("command rpm"))
	}
	m.rpmFails = "error: unpacking of archive failed: cpio: write failed - No space left on device"
	if err := m.apply(t.Context(), "minions"); !isA[*engine.Retry](err) || len(m.taken("command rpm --initdb")) != 0 {
		t.Errorf("repaired for another reason (%v): %q", err, m.taken("command rpm"))
	}
}

package stages_test

import (
	"testing"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// TestPartialFilesOfAKilledRPMAreRemoved, and no other files, whether or not the
// package must be installed again.
func TestPartialFilesOfAKilledRPMAreRemoved(t *testing.T) {
	t.Parallel()
	partial := []string{minionsProgram + ";0000abcd", minionsConf + ";655f1c2a", units.Dir + "/" + units.Minions + ";ffffffff"}
	kept := []string{
		minionsProgram + ";0000abc", minionsProgram + ";0000abcde", minionsProgram + ";0000ABCD", minionsProgram + ".0000abcd",
		"/usr/bin/other;0000abcd", "/usr/bin/my-eru-minions;0000abcd", "/usr/local/bin/eru-minions;0000abcd",
	}
	for what, prepare := range map[string]func(*machine){
		"not installed": func(*machine) {},
		"installed":     func(m *machine) { m.mustApply("minions"); m.put(minionsConf, "other\n") },
	} {
		m := newMachine(t)
		prepare(m)
		for _, path := range kept {
			m.put(path, "part")
		}
		for _, path := range partial {
			m.put(path, "part")
		}
		m.mustApply("minions")
		for _, path := range partial {
			if fileExists(m.file(path)) {
				t.Errorf("%s: %s was not removed", what, path)
			}
		}
		for _, path := range kept {
			if !fileExists(m.file(path)) {
				t.Errorf("%s: %s was removed", what, path)
			}
		}
	}
}

func TestIncompleteRPMDatabaseIsRepaired(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.rpmFails = "error: sqlite failure: CREATE TABLE IF NOT EXISTS 'Enhancename': attempt to write a readonly database\n" +
		"error: cannot open Packages database in /root/.rpmdb"
	if err := m.apply(t.Context(), "minions"); !isError[*engine.Retry](err) {
		t.Errorf("got %v", err)
	}
	if repairs := m.stepsWith("command rpm --initdb"); len(repairs) != 1 {
		t.Errorf("repaired %d times: %q", len(repairs), m.stepsWith("command rpm"))
	}
	m.rpmFails = "error: unpacking of archive failed: cpio: write failed - No space left on device"
	if err := m.apply(t.Context(), "minions"); !isError[*engine.Retry](err) || len(m.stepsWith("command rpm --initdb")) != 0 {
		t.Errorf("repaired after another error (%v): %q", err, m.stepsWith("command rpm"))
	}
}

package provision_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/journal"
	"github.com/projecteru2/firstboot/internal/provision"
	"github.com/projecteru2/firstboot/internal/report"
)

var otherConfig = strings.Replace(validConfig, "10.213.0.0/16", "10.214.0.0/16", 1)

func TestEditOfAFileIsDriftAndAppliedByForceOnly(t *testing.T) {
	m := newMachine(t)
	m.runs(provision.ExitDone)
	m.put("/etc/firstboot/config.yaml", otherConfig)
	m.is(journal.Drifted, "configuration changed: pool.cidr", "firstboot run --force")
	m.runs(provision.ExitDone, "complete (not re-checked)")
	m.force = true
	m.runs(provision.ExitDone, "(changed)")
	if got := m.get("/etc/first"); got != "10.214.0.0/16" {
		t.Errorf("first is %q", got)
	}
	m.is(journal.Complete, "Attempt:1")
	if got := m.get(journal.Marker); !strings.Contains(got, `"previous"`) {
		t.Errorf("the marker forgot the previous one: %s", got)
	}
}

func TestFileThatBecameInvalidIsDrift(t *testing.T) {
	m := newMachine(t)
	m.runs(provision.ExitDone)
	m.put("/etc/firstboot/config.yaml", validConfig+"colour: red\n")
	m.is(journal.Drifted, "configuration changed and is invalid now", "colour")
}

func TestLaterRunsUseTheSavedConfigurationAndSaySo(t *testing.T) {
	m := newMachine(t)
	m.stages[2].apply = func(context.Context) error { return errors.New("no") }
	m.runs(provision.ExitFailed)
	m.put("/etc/firstboot/config.yaml", otherConfig)
	m.stages[2].apply = nil
	m.runs(provision.ExitDone, "warning: configuration changed: pool.cidr", "firstboot run --force applies")
	if got := m.get("/etc/third"); got != "10.213.0.0/16" {
		t.Errorf("third is %q", got)
	}
}

func TestNamedFilesAreRememberedAndNeverIgnored(t *testing.T) {
	m := newMachine(t)
	m.put("/root/my.yaml", otherConfig)
	m.files = []string{m.h.RealPath("/root/my.yaml")}
	m.stages[2].apply = func(context.Context) error { return errors.New("no") }
	m.runs(provision.ExitFailed)
	m.files = nil
	m.is(journal.Failed)
	m.stages[2].apply = nil
	m.runs(provision.ExitDone)
	if strings.Contains(m.out.String(), "warning") {
		t.Errorf("the search path passed for an edit of the named file: %s", &m.out)
	}
	m.is(journal.Complete)

	other := newMachine(t)
	other.stages[2].apply = func(context.Context) error { return errors.New("no") }
	other.runs(provision.ExitFailed)
	other.files = m.files
	other.put("/root/my.yaml", otherConfig)
	other.files = []string{other.h.RealPath("/root/my.yaml")}
	other.runs(provision.ExitUsage, "--config differs (configuration changed: pool.cidr)", "firstboot run --force --config")
}

func TestForceWithAnInvalidFileKeepsTheHostComplete(t *testing.T) {
	m := newMachine(t)
	m.runs(provision.ExitDone)
	m.put("/etc/firstboot/config.yaml", "pool: [")
	m.force = true
	m.runs(provision.ExitConfig, "config.yaml")
	if !m.h.Exists(journal.Marker) || m.h.Exists(report.RunIssue) {
		t.Error("a slip in a file made the host incomplete")
	}
	m.put("/etc/firstboot/config.yaml", validConfig)
	m.is(journal.Complete)
}

func TestForcedRunThatFailsLeavesNoMarker(t *testing.T) {
	m := newMachine(t)
	m.runs(provision.ExitDone)
	m.put("/etc/firstboot/config.yaml", otherConfig)
	m.stages[1].apply = func(context.Context) error { return errors.New("no") }
	m.force = true
	m.runs(provision.ExitFailed)
	if m.h.Exists(journal.Marker) {
		t.Fatal("a half-changed host passes for complete")
	}
	m.is(journal.Failed)
	m.force, m.stages[1].apply = false, nil
	m.runs(provision.ExitDone)
	if got := m.get("/etc/second"); got != "10.214.0.0/16" {
		t.Errorf("the next run did not go on with the forced configuration: %q", got)
	}
}

func TestFewStagesDoNotMakeAHostComplete(t *testing.T) {
	m := newMachine(t)
	m.only = []string{"second"}
	m.runs(provision.ExitDone, "first  (1/2) done", "second (2/2) done")
	if m.h.Exists(journal.Marker) || m.h.Exists("/etc/third") {
		t.Error("more happened than was asked for")
	}
	m.is(journal.NotStarted, "only these stages were run: first, second")
	m.only = []string{"nonsense"}
	m.runs(provision.ExitUsage, "the stages are first, second, third")
}

func TestFewStagesByForceKeepACompleteHostComplete(t *testing.T) {
	m := newMachine(t)
	m.runs(provision.ExitDone)
	marker := m.get(journal.Marker)
	m.put("/etc/second", "drifted")
	m.is(journal.Drifted, "/etc/second: other text, wanted 10.213.0.0/16")
	m.only, m.force = []string{"second"}, true
	m.runs(provision.ExitDone)
	if m.get(journal.Marker) != marker {
		t.Error("the marker is another one")
	}
	m.is(journal.Complete)
	m.put("/etc/firstboot/config.yaml", otherConfig)
	m.runs(provision.ExitDone)
	if m.h.Exists(journal.Marker) {
		t.Error("a host of which a part follows another configuration passes for complete")
	}
}

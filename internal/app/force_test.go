package app_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

var otherConfig = strings.Replace(validConfig, "10.213.0.0/16", "10.214.0.0/16", 1)

func TestChangedFileIsDriftUntilForceAppliesIt(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile("/etc/firstboot/config.yaml", otherConfig)
	m.is(state.Drifted, "configuration changed: pool.cidr", "firstboot run --force")
	m.runs(app.ExitDone, "complete (not re-checked)")
	m.force = true
	m.runs(app.ExitDone, "(changed)")
	if got := m.readFile("/etc/first"); got != "10.214.0.0/16" {
		t.Errorf("first is %q", got)
	}
	m.is(state.Complete, "Attempt:1")
	if got := m.readFile(state.MarkerPath); !strings.Contains(got, `"previous"`) {
		t.Errorf("the marker does not contain the previous one: %s", got)
	}
}

func TestInvalidFileOnACompleteHostIsDrift(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile("/etc/firstboot/config.yaml", validConfig+"colour: red\n")
	m.is(state.Drifted, "configuration changed and is now invalid", "colour")
}

func TestLaterRunUsesTheSavedConfigurationAndWarns(t *testing.T) {
	m := newMachine(t)
	m.stages[2].apply = func(context.Context) error { return errors.New("no") }
	m.runs(app.ExitFailed)
	m.writeFile("/etc/firstboot/config.yaml", otherConfig)
	m.stages[2].apply = nil
	m.runs(app.ExitDone, "warning: configuration changed: pool.cidr", "firstboot run --force applies")
	if got := m.readFile("/etc/third"); got != "10.213.0.0/16" {
		t.Errorf("third is %q", got)
	}
}

func TestConfigFilesAreRememberedAndMustNotDiffer(t *testing.T) {
	m := newMachine(t)
	m.writeFile("/root/my.yaml", otherConfig)
	m.files = []string{m.h.RealPath("/root/my.yaml")}
	m.stages[2].apply = func(context.Context) error { return errors.New("no") }
	m.runs(app.ExitFailed)
	m.files = nil
	m.is(state.Failed)
	m.stages[2].apply = nil
	m.runs(app.ExitDone)
	if strings.Contains(m.out.String(), "warning") {
		t.Errorf("the default sources were compared with the named file: %s", &m.out)
	}
	m.is(state.Complete)

	other := newMachine(t)
	other.stages[2].apply = func(context.Context) error { return errors.New("no") }
	other.runs(app.ExitFailed)
	other.files = m.files
	other.writeFile("/root/my.yaml", otherConfig)
	other.files = []string{other.h.RealPath("/root/my.yaml")}
	other.runs(app.ExitUsage, "--config differs from the saved configuration of this host (configuration changed: pool.cidr)", "firstboot run --force --config")
}

func TestForceWithAnInvalidFileKeepsTheHostComplete(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile("/etc/firstboot/config.yaml", "pool: [")
	m.force = true
	m.runs(app.ExitConfig, "config.yaml")
	if !m.h.Exists(state.MarkerPath) || m.h.Exists(report.RunIssue) {
		t.Error("a mistake in a file made the host incomplete")
	}
	m.writeFile("/etc/firstboot/config.yaml", validConfig)
	m.is(state.Complete)
}

func TestFailedForcedRunLeavesNoMarker(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	m.writeFile("/etc/firstboot/config.yaml", otherConfig)
	m.stages[1].apply = func(context.Context) error { return errors.New("no") }
	m.force = true
	m.runs(app.ExitFailed)
	if m.h.Exists(state.MarkerPath) {
		t.Fatal("a partly changed host has a marker")
	}
	m.is(state.Failed)
	m.force, m.stages[1].apply = false, nil
	m.runs(app.ExitDone)
	if got := m.readFile("/etc/second"); got != "10.214.0.0/16" {
		t.Errorf("the next run did not use the configuration of the forced run: %q", got)
	}
}

func TestSelectedStagesDoNotCompleteAHost(t *testing.T) {
	m := newMachine(t)
	m.only = []string{"second"}
	m.runs(app.ExitDone, "first  (1/2) done", "second (2/2) done")
	if m.h.Exists(state.MarkerPath) || m.h.Exists("/etc/third") {
		t.Error("stages that were not selected were run")
	}
	m.is(state.NotStarted, "only these stages were run: first, second")
	m.only = []string{"unknown"}
	m.runs(app.ExitUsage, "the stages are first, second, third")
}

func TestForcedSelectedStagesKeepACompleteHostComplete(t *testing.T) {
	m := newMachine(t)
	m.runs(app.ExitDone)
	marker := m.readFile(state.MarkerPath)
	m.writeFile("/etc/second", "drifted")
	m.is(state.Drifted, "/etc/second: other text, expected 10.213.0.0/16")
	m.only, m.force = []string{"second"}, true
	m.runs(app.ExitDone)
	if m.readFile(state.MarkerPath) != marker {
		t.Error("the marker was changed")
	}
	m.is(state.Complete)
	m.writeFile("/etc/firstboot/config.yaml", otherConfig)
	m.runs(app.ExitDone)
	if m.h.Exists(state.MarkerPath) {
		t.Error("a host with stages of two configurations has a marker")
	}
}

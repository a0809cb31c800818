package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

func silent(string, ...any) {}

// An earlier firstboot recorded a departure in the journal only.
func TestDepartureOfAnEarlierFirstbootCounts(t *testing.T) {
	for text, want := range map[string]state.State{
		"this host has left the network": state.Left, "this host is leaving the network": state.Leaving,
		"only these stages were run: sysctl": state.NotStarted,
	} {
		h := host.New(t.TempDir())
		writeFile(t, h, state.JournalPath, `{"schema": 1, "state": "not-started", "error": "`+text+`", "machine": {"machine_id": "aaaa"},
			"started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:01Z"}`)
		is(t, h, want)
		if err := state.OpenRecords(h, self).Recover(time.Now(), silent); err != nil {
			t.Fatal(err)
		}
		if h.Exists(state.LeftPath) != (want != state.NotStarted) {
			t.Errorf("%s: the record of the departure exists: %t", text, h.Exists(state.LeftPath))
		}
		if want == state.NotStarted {
			continue
		}
		if _, err := state.OpenRecords(h, self).Start(state.Start{Event: state.StartAtBoot}); err == nil {
			t.Errorf("%s: a boot joins again", text)
		}
		// A journal of selected stages does not hide it.
		end(t, start(t, h, state.StartSelected), state.SelectedPassed)
		is(t, h, want)
	}
}

func TestWholeRunTestsTheNetworkAgain(t *testing.T) {
	h := host.New(t.TempDir())
	run := start(t, h, state.StartRun)
	j := run.Journal()
	j.Notes.Probe = state.Probe{BootID: "boot1", NetworkID: "n"}
	st, err := run.End(state.RunFailed)
	j.State = st
	if err := errors.Join(err, run.Save(&j)); err != nil {
		t.Fatal(err)
	}
	if got := start(t, h, state.StartSelected).Journal().Notes.Probe.NetworkID; got != "n" {
		t.Errorf("selected stages start with the probe of %q", got)
	}
	if got := start(t, h, state.StartRun).Journal().Notes.Probe; got != (state.Probe{}) {
		t.Errorf("a whole run starts with %+v", got)
	}
}

// Without an identity every marker would look foreign, and be set aside.
func TestNothingIsSetAsideWithoutAnIdentity(t *testing.T) {
	h := host.New(t.TempDir())
	pass(t, h, state.StartRun, "v1")
	if err := state.OpenRecords(h, state.Machine{}).Recover(time.Now(), silent); !errors.Is(err, state.ErrNoIdentity) {
		t.Error(err)
	}
	is(t, h, state.Complete)
}

func TestSecondReleaseOfALockDoesNothing(t *testing.T) {
	h := host.New(t.TempDir())
	first, err := state.AcquireLock(h, state.CommandRun)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := state.AcquireLock(h, state.CommandVerify)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	if by, held := state.LockHolder(h); !held || by.Command != state.CommandVerify {
		t.Errorf("the lock is held by %+v, %t", by, held)
	}
	if err := second.Release(); err != nil {
		t.Error(err)
	}
}

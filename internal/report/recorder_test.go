package report_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// fakeStore counts the saves.
type fakeStore struct {
	saves    int // of both kinds
	durable  int
	last     state.Journal
	err      error
	reported []error
}

func (d *fakeStore) recorder() *report.Recorder {
	return report.NewRecorder(state.Journal{}, d, func(err error) { d.reported = append(d.reported, err) })
}

func (d *fakeStore) Save(j *state.Journal) error {
	d.durable++
	return d.SaveProgress(j)
}

func (d *fakeStore) SaveProgress(j *state.Journal) error {
	d.saves++
	d.last = *j
	return d.err
}

var epoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func event(kind engine.Kind, second int) engine.Event {
	return engine.Event{Stage: "node", Kind: kind, Attempt: 1, Time: epoch.Add(time.Duration(second) * time.Second), Since: epoch}
}

func TestRecorderRecordsEachChangeOfAStage(t *testing.T) {
	var d fakeStore
	r := d.recorder()
	at := func() state.Stage { return *d.last.Stage("node") }

	r.Event(event(engine.Started, 0))
	if s := at(); s.State != state.StageRunning || !s.Started.Equal(epoch) || s.Attempts != 1 {
		t.Errorf("started: %+v", s)
	}
	wait := event(engine.Waiting, 1)
	wait.Message, wait.Err, wait.Next = "etcd", errors.New("refused"), epoch.Add(4*time.Second)
	r.Event(wait)
	if s := at(); s.WaitsFor != "etcd" || s.Error != "refused" || !s.WaitSince.Equal(epoch) || !s.NextRetry.Equal(epoch.Add(4*time.Second)) {
		t.Errorf("waiting: %+v", s)
	}
	r.Event(event(engine.Applying, 5))
	if s := at(); s.WaitsFor != "" || s.Error != "" || !s.NextRetry.IsZero() {
		t.Errorf("a finished wait is still recorded: %+v", s)
	}
	retry := event(engine.Retrying, 6)
	retry.Attempt, retry.Err, retry.Next = 2, engine.WithHint(errors.New("held"), "wait"), epoch.Add(9*time.Second)
	r.Event(retry)
	if s := at(); s.Attempts != 2 || s.Error != "held" || s.Hint != "wait" || s.NextRetry.IsZero() {
		t.Errorf("retrying: %+v", s)
	}
	done := event(engine.Done, 10)
	done.Changed = true
	r.Event(done)
	if s := at(); s.State != state.StageChanged || s.Seconds != 10 || s.Error != "" || s.Attempts != 2 {
		t.Errorf("done: %+v", s)
	}
}

func TestUnchangedWaitIsSavedRarely(t *testing.T) {
	var d fakeStore
	r := d.recorder()
	for i := range 60 {
		e := event(engine.Waiting, i)
		e.Message, e.Err = "etcd", errors.New("refused")
		r.Event(e)
	}
	if d.saves != 12 {
		t.Errorf("%d saves in a minute, want one every five seconds", d.saves)
	}
	e := event(engine.Waiting, 60)
	e.Message, e.Err = "etcd", errors.New("no route")
	r.Event(e)
	if d.saves != 13 {
		t.Error("another error was not saved at once")
	}
}

func TestFailureInterruptionAndTimeoutAreDistinguished(t *testing.T) {
	for _, c := range []struct {
		kind engine.Kind
		err  error
		st   state.StageState
		text string
	}{
		{engine.Failed, errors.New("no space left"), state.StageFailed, "no space left"},
		{engine.Failed, errors.New("no answer: context canceled"), state.StageFailed, "no answer: context canceled"},
		{engine.Failed, fmt.Errorf("the lease was lost: %w", context.Canceled), state.StageFailed, "the lease was lost: context canceled"},
		{engine.Interrupted, context.Canceled, state.StagePending, "interrupted"},
		{
			engine.Stopped, &engine.StoppedError{For: "etcd", Failed: "sysctl", Err: errors.New("refused")},
			state.StageSkipped, "stopped waiting for etcd, because sysctl failed: refused",
		},
		{engine.Failed, context.DeadlineExceeded, state.StageFailed, "waited for etcd: refused; context deadline exceeded"},
	} {
		var d fakeStore
		r := d.recorder()
		r.Event(event(engine.Started, 0))
		wait := event(engine.Waiting, 1)
		wait.Message, wait.Err = "etcd", errors.New("refused")
		r.Event(wait)
		failed := event(c.kind, 2)
		failed.Err = c.err
		r.Event(failed)
		if s := d.last.Stage("node"); s.State != c.st || s.Error != c.text {
			t.Errorf("%v: %+v", c.err, s)
		}
		r.Event(engine.Event{Stage: "pool", Kind: engine.Skipped, Message: "node", Time: epoch})
		if s := d.last.Stage("pool"); s.State != state.StageSkipped || s.Error != "node is not done" {
			t.Errorf("%v: the dependent stage is %+v", c.err, s)
		}
	}
}

func TestFailedSaveIsReportedOnce(t *testing.T) {
	d := fakeStore{err: errors.New("no space left on device")}
	r := d.recorder()
	r.Event(event(engine.Started, 0))
	r.Event(event(engine.Done, 1))
	if len(d.reported) != 1 || d.durable != 2 {
		t.Errorf("reported %d times, saved %d times", len(d.reported), d.saves)
	}
	if err := r.Change(func(*state.Journal) {}); err == nil {
		t.Error("Change lost a change without an error")
	}
}

// TestOnlyWhatAResumeNeedsIsSavedDurably: a power cut may lose the progress of the
// stages, but not the mode of the network.
func TestOnlyWhatAResumeNeedsIsSavedDurably(t *testing.T) {
	var d fakeStore
	r := d.recorder()
	set := func(change func(*state.Notes)) {
		if err := r.SetNotes(change); err != nil {
			t.Fatal(err)
		}
	}
	r.Event(event(engine.Started, 0))
	r.Event(event(engine.Done, 1))
	set(func(n *state.Notes) { n.FilesReloaded = epoch })
	if d.durable != 0 || d.saves != 3 || d.last.Notes.FilesReloaded != epoch {
		t.Errorf("progress: %d saves, %d of them durable", d.saves, d.durable)
	}
	set(func(n *state.Notes) { n.Network = state.Network{Mode: "local"} })
	if d.durable != 1 || d.last.Notes.Network.Mode != "local" {
		t.Errorf("the mode of the network: %d durable saves", d.durable)
	}
	if err := r.Change(func(j *state.Journal) { j.State = state.Complete }); err != nil || d.durable != 2 {
		t.Errorf("the end of the run: %d durable saves, %v", d.durable, err)
	}
}

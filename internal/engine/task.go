package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/projecteru2/firstboot/internal/fault"
)

// task runs one stage.
type task struct {
	run     *run
	stage   Stage
	since   time.Time
	attempt int
	changed bool
	doing   atomic.Pointer[string] // what Apply does now
	backOff *backoff.ExponentialBackOff
	waiting struct { // what the stage waits for, and since when
		what  string
		since time.Time
	}
	stopAt time.Time // when a run that cannot succeed stops this stage's waits; zero: not decided
}

// execute repeats check, apply, check until the stage is done, has failed
// permanently, or ctx ends.
func (t *task) execute(ctx context.Context) error {
	t.emit(Event{Kind: Started})
	for t.attempt = 1; ; {
		check, err := t.once(ctx)
		if err == nil {
			for _, w := range check.Warnings {
				t.emit(Event{Kind: Warned, Message: w})
			}
			t.emit(Event{Kind: Done, Changed: t.changed, Check: check})
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := t.pause(ctx, err); err != nil {
			return err
		}
	}
}

// once makes one attempt: check, apply, check.
func (t *task) once(ctx context.Context) (CheckResult, error) {
	check, err := t.check(ctx)
	if err != nil || check.OK() {
		return check, err
	}
	t.emit(Event{Kind: Applying, Check: check})
	t.changed = true
	if err := t.apply(ctx, check); err != nil {
		return check, err
	}
	if check, err = t.check(ctx); err != nil {
		return check, err
	}
	if !check.OK() {
		return check, &Retry{Err: stillDiffers(check)}
	}
	return check, nil
}

// check checks the stage. Another attempt may resolve an error that nobody
// classified.
func (t *task) check(ctx context.Context) (CheckResult, error) {
	check, err := checkStage(ctx, t.stage, t.run.opts.CheckTimeout)
	if err != nil && fault.ClassOf(err) == fault.Unclassified {
		err = &Retry{Err: err}
	}
	return check, err
}

// apply applies the stage within its limit.
func (t *task) apply(ctx context.Context, check CheckResult) error {
	limit := t.run.opts.ApplyTimeout
	if s, ok := t.stage.(Limited); ok {
		limit = s.ApplyLimit()
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	first := "changing " + check.Differences[0].Object
	t.doing.Store(&first)
	err := t.stage.Apply(limited, t.progress)
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	return overtime(err, *t.doing.Load(), limit)
}

// pause sleeps until the next attempt. It returns err if no attempt is left. The
// class of err decides; an unclassified error of Apply needs a person.
func (t *task) pause(ctx context.Context, err error) error {
	delay := t.backOff.NextBackOff()
	switch fault.ClassOf(err) {
	case fault.Transient:
		return t.wait(ctx, asWait(err), delay)
	case fault.Retryable:
		return t.retry(ctx, err, delay)
	}
	return err
}

// asWait returns a transient error as a Wait.
func asWait(err error) *Wait {
	var wait *Wait
	if errors.As(err, &wait) {
		return wait
	}
	return &Wait{For: fault.WaitsFor(err), Err: err, After: fault.RetryAfter(err)}
}

// wait sleeps until the next attempt of a stage that waits. In a run that cannot
// succeed it returns a *StoppedError when the grace ends.
func (t *task) wait(ctx context.Context, w *Wait, delay time.Duration) error {
	t.waitFor(w.For)
	delay += w.After
	t.emit(Event{Kind: Waiting, Message: w.For, Err: w.Err, Since: t.waiting.since, Next: time.Now().Add(delay)})
	next := time.NewTimer(delay)
	defer next.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-next.C:
		return nil
	case <-t.run.doomed:
	}
	if t.stopAt.IsZero() {
		t.stopAt = time.Now().Add(t.run.opts.Grace)
	}
	stop := time.NewTimer(time.Until(t.stopAt))
	defer stop.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-next.C:
		return nil
	case <-stop.C:
		return &StoppedError{For: w.For, Failed: t.run.doomedBy, Err: w.Err}
	}
}

// waitFor records what the stage waits for. A new object resets the back-off.
func (t *task) waitFor(what string) {
	if t.waiting.what == what {
		return
	}
	t.waiting.what, t.waiting.since = what, time.Now()
	t.backOff.Reset()
}

// retry sleeps until the next attempt, or returns err if none is left.
func (t *task) retry(ctx context.Context, err error, delay time.Duration) error {
	after := fault.RetryAfter(err)
	var retry *Retry
	if errors.As(err, &retry) {
		after = max(after, retry.After)
	}
	if t.attempt >= t.run.opts.Attempts {
		return err
	}
	t.attempt++
	delay = max(delay, after)
	t.emit(Event{Kind: Retrying, Err: err, Next: time.Now().Add(delay)})
	return sleep(ctx, delay)
}

func (t *task) progress(message string, done, total int64) {
	t.doing.Store(&message)
	t.emit(Event{Kind: Progressed, Message: message, Done: done, Total: total})
}

func (t *task) emit(e Event) {
	e.Stage, e.Attempt = t.stage.Name(), t.attempt
	if e.Since.IsZero() {
		e.Since = t.since
	}
	t.run.emit(e)
}

// sleep waits for d, or until ctx ends; then it returns the cause.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

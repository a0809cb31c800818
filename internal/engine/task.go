package engine

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// task is one stage's way through a run.
type task struct {
	run     *run
	stage   Stage
	since   time.Time
	attempt int
	changed bool
	backOff *backoff.ExponentialBackOff
	waiting struct { // what is being waited for, and since when
		what  string
		since time.Time
	}
}

// work runs check, apply, check until the stage is as wanted, has failed for
// good, or ctx ends.
func (t *task) work(ctx context.Context) error {
	t.emit(Event{Kind: Started})
	for t.attempt = 1; ; {
		finding, err := t.once(ctx)
		if err == nil {
			for _, w := range finding.Warnings {
				t.emit(Event{Kind: Warned, Message: w})
			}
			t.emit(Event{Kind: Done, Changed: t.changed, Check: finding})
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

// once is check, apply, check.
func (t *task) once(ctx context.Context) (CheckResult, error) {
	finding, err := t.check(ctx)
	if err != nil {
		return finding, asRetry(err)
	}
	if finding.OK() {
		return finding, nil
	}
	t.emit(Event{Kind: Applying, Check: finding})
	t.changed = true
	if err := t.stage.Apply(ctx, t.progress); err != nil {
		return finding, err
	}
	if finding, err = t.check(ctx); err != nil {
		return finding, asRetry(err)
	}
	if !finding.OK() {
		return finding, &Retry{Err: differs(finding)}
	}
	return finding, nil
}

func (t *task) check(ctx context.Context) (CheckResult, error) {
	ctx, cancel := context.WithTimeout(ctx, t.run.opts.CheckTimeout)
	defer cancel()
	return t.stage.Check(ctx)
}

// asRetry makes a check that could not be made worth another try.
func asRetry(err error) error {
	var wait *Wait
	var refusal *Refusal
	if errors.As(err, &wait) || errors.As(err, &refusal) {
		return err
	}
	return &Retry{Err: err}
}

// pause sleeps before the next try, or returns err where there is none.
func (t *task) pause(ctx context.Context, err error) error {
	var wait *Wait
	var retry *Retry
	delay := t.backOff.NextBackOff()
	event := Event{Kind: Retrying, Err: err}
	switch {
	case errors.As(err, &wait):
		t.waitFor(wait.For)
		delay += wait.After
		event.Kind, event.Message, event.Since, event.Err = Waiting, wait.For, t.waiting.since, wait.Err
	case errors.As(err, &retry):
		if t.attempt >= t.run.opts.Attempts {
			return retry.Err
		}
		t.attempt++
		delay = max(delay, retry.After)
	default:
		return err
	}
	event.Next = time.Now().Add(delay)
	t.emit(event)
	return sleep(ctx, delay)
}

// waitFor notes what is being waited for; a new thing starts a new back-off.
func (t *task) waitFor(what string) {
	if t.waiting.what == what {
		return
	}
	t.waiting.what, t.waiting.since = what, time.Now()
	t.backOff.Reset()
}

func (t *task) progress(message string, done, total int64) {
	t.emit(Event{Kind: Progressed, Message: message, Done: done, Total: total})
}

func (t *task) emit(e Event) {
	e.Stage, e.Attempt = t.stage.Name(), t.attempt
	if e.Since.IsZero() {
		e.Since = t.since
	}
	t.run.emit(e)
}

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

package engine

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// task runs one stage.
type task struct {
	run     *run
	stage   Stage
	since   time.Time
	attempt int
	changed bool
	backOff *backoff.ExponentialBackOff
	waiting struct { // what the stage waits for, and since when
		what  string
		since time.Time
	}
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
	if err != nil {
		return check, asRetry(err)
	}
	if check.OK() {
		return check, nil
	}
	t.emit(Event{Kind: Applying, Check: check})
	t.changed = true
	if err := t.stage.Apply(ctx, t.progress); err != nil {
		return check, err
	}
	if check, err = t.check(ctx); err != nil {
		return check, asRetry(err)
	}
	if !check.OK() {
		return check, &Retry{Err: stillDiffers(check)}
	}
	return check, nil
}

func (t *task) check(ctx context.Context) (CheckResult, error) {
	ctx, cancel := context.WithTimeout(ctx, t.run.opts.CheckTimeout)
	defer cancel()
	return t.stage.Check(ctx)
}

// asRetry makes the error of a check a Retry, unless it is a Wait or a Refusal.
func asRetry(err error) error {
	var wait *Wait
	var refusal *Refusal
	if errors.As(err, &wait) || errors.As(err, &refusal) {
		return err
	}
	return &Retry{Err: err}
}

// pause sleeps until the next attempt. It returns err if no attempt is left.
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

// waitFor records what the stage waits for. A new object resets the back-off.
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

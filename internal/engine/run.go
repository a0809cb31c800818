package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Options configure a run.
type Options struct {
	// Events receives every event, one at a time, in order.
	Events func(Event)
	// Attempts limits the attempts of a stage that returns Retry; 0 means 5.
	Attempts int
	// CheckTimeout limits one Check; 0 means one minute. ApplyTimeout limits one
	// Apply of a stage that is not Limited; 0 means ten minutes.
	CheckTimeout, ApplyTimeout time.Duration
	// Grace is how long a stage may wait after another stage has failed; 0 means
	// one minute. Then it stops, because its success cannot change that the run
	// fails. A stage that works is not stopped.
	Grace time.Duration
	// MinBackOff and MaxBackOff limit the mean pause between attempts;
	// 0 means 500 ms and 10 s.
	MinBackOff, MaxBackOff time.Duration
}

func (o Options) withDefaults() Options {
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Attempts == 0 {
		o.Attempts = 5
	}
	if o.CheckTimeout == 0 {
		o.CheckTimeout = time.Minute
	}
	if o.ApplyTimeout == 0 {
		o.ApplyTimeout = 10 * time.Minute
	}
	if o.Grace == 0 {
		o.Grace = time.Minute
	}
	if o.MinBackOff == 0 {
		o.MinBackOff = 500 * time.Millisecond
	}
	if o.MaxBackOff == 0 {
		o.MaxBackOff = 10 * time.Second
	}
	return o
}

// Error reports the stages that failed in a run.
type Error struct {
	Stages map[string]error // by name; without the stages that were skipped
	Order  []string         // their names, in the order of the list
}

func (e *Error) Error() string {
	first := e.Order[0]
	msg := fmt.Sprintf("stage %s failed: %v", first, e.Stages[first])
	if n := len(e.Order) - 1; n > 0 {
		msg += fmt.Sprintf(" (and %d more)", n)
	}
	return msg
}

// Unwrap returns the errors of all failed stages.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Order))
	for i, name := range e.Order {
		errs[i] = e.Stages[name]
	}
	return errs
}

// Run runs the stages. A stage starts when all stages it comes after are done;
// independent stages run in parallel. If a stage fails, those that come after
// it are skipped and the others are finished, unless they wait for longer than
// Options.Grace. Run returns nil if the last check of every stage found no
// difference, an *Error with the failed stages, or the cause of ctx's end.
func Run(ctx context.Context, stages []Stage, opts Options) error {
	if err := validate(stages); err != nil {
		return err
	}
	r := &run{
		opts: opts.withDefaults(), stages: stages, outcomes: map[string]*outcome{}, skipped: map[string]bool{},
		doomed: make(chan struct{}),
	}
	for _, s := range stages {
		r.outcomes[s.Name()] = &outcome{done: make(chan struct{})}
	}
	var wg sync.WaitGroup
	for _, s := range stages {
		wg.Go(func() { r.runStage(ctx, s) })
	}
	wg.Wait()
	return r.result(ctx, stages)
}

// outcome is the outcome of one stage. The fields are set before done is closed.
type outcome struct {
	done    chan struct{}
	err     error
	skipped bool // or stopped
}

type run struct {
	opts     Options
	stages   []Stage
	outcomes map[string]*outcome
	eventMu  sync.Mutex // one event at a time
	skipMu   sync.Mutex // guards skipped, and the order of its events
	skipped  map[string]bool
	doom     sync.Once
	doomed   chan struct{} // closed when the first stage fails
	doomedBy string        // that stage; set before doomed is closed
}

func (r *run) emit(e Event) {
	r.eventMu.Lock()
	defer r.eventMu.Unlock()
	e.Time = time.Now()
	r.opts.Events(e)
}

func (r *run) result(ctx context.Context, stages []Stage) error {
	failed := &Error{Stages: map[string]error{}}
	for _, s := range stages {
		if o := r.outcomes[s.Name()]; o.err != nil && !o.skipped {
			failed.Stages[s.Name()] = o.err
			failed.Order = append(failed.Order, s.Name())
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(failed.Order) > 0:
		return failed
	}
	return nil
}

// runStage waits for the stages that s comes after, then runs s.
func (r *run) runStage(ctx context.Context, s Stage) {
	o := r.outcomes[s.Name()]
	defer close(o.done)
	for _, name := range s.After() {
		before, ok := r.outcomes[name]
		if !ok {
			continue // not selected for this run
		}
		<-before.done
		if before.err != nil {
			o.err, o.skipped = before.err, true
			return
		}
	}
	t := &task{run: r, stage: s, since: time.Now(), backOff: r.newBackOff()}
	o.err = t.execute(ctx)
	if o.err != nil {
		r.end(ctx, t, o)
	}
}

// end reports the end of a stage that is not done. After an interruption the
// stages after it are pending, not skipped.
func (r *run) end(ctx context.Context, t *task, o *outcome) {
	event := Event{Stage: t.stage.Name(), Kind: Failed, Attempt: t.attempt, Err: o.err, Since: t.since}
	var stopped *StoppedError
	switch {
	case ctx.Err() != nil:
		if errors.Is(o.err, context.Canceled) {
			event.Kind = Interrupted
		}
		r.emit(event)
		return
	case errors.As(o.err, &stopped):
		o.skipped, event.Kind = true, Stopped
		r.emit(event)
	default:
		r.emit(event)
		r.doom.Do(func() {
			r.doomedBy = t.stage.Name()
			close(r.doomed)
		})
	}
	r.skipAfter(t.stage.Name())
}

// skipAfter emits Skipped for each stage that needs the failed one, directly or
// through others, in the order of the list and once per stage.
func (r *run) skipAfter(failed string) {
	r.skipMu.Lock()
	defer r.skipMu.Unlock()
	notDone := map[string]bool{failed: true}
	for _, s := range r.stages {
		for _, name := range s.After() {
			if !notDone[name] {
				continue
			}
			notDone[s.Name()] = true
			if !r.skipped[s.Name()] {
				r.skipped[s.Name()] = true
				r.emit(Event{Stage: s.Name(), Kind: Skipped, Message: name})
			}
			break
		}
	}
}

// newBackOff doubles the mean pause from MinBackOff to MaxBackOff. The factor 1
// spreads each pause evenly between 0 and twice its mean (full jitter), so that
// a thousand hosts that boot together do not send their requests together.
func (r *run) newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = r.opts.MinBackOff
	b.MaxInterval = r.opts.MaxBackOff
	b.Multiplier = 2
	b.RandomizationFactor = 1
	return b
}

// validate rejects lists with duplicate names or cycles.
func validate(stages []Stage) error {
	seen := map[string]bool{}
	for _, s := range stages {
		if seen[s.Name()] {
			return fmt.Errorf("stage %s is listed twice", s.Name())
		}
		for _, name := range s.After() {
			if _, listed := Find(stages, name); listed && !seen[name] {
				return fmt.Errorf("stage %s comes after %s, which is listed later", s.Name(), name)
			}
		}
		seen[s.Name()] = true
	}
	return nil
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Options of a run.
type Options struct {
	// Events receives every event, one at a time, in order.
	Events func(Event)
	// Attempts limits the tries of one stage that ask for a Retry; 0 means 5.
	Attempts int
	// CheckTimeout bounds one Check; 0 means a minute.
	CheckTimeout time.Duration
	// MinBackOff and MaxBackOff bound the mean pause between tries;
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
	if o.MinBackOff == 0 {
		o.MinBackOff = 500 * time.Millisecond
	}
	if o.MaxBackOff == 0 {
		o.MaxBackOff = 10 * time.Second
	}
	return o
}

// Error is a run in which stages failed.
type Error struct {
	Stages map[string]error // by name, for each stage that failed itself
	Order  []string         // their names in the order of the list
}

func (e *Error) Error() string {
	first := e.Order[0]
	msg := fmt.Sprintf("stage %s failed: %v", first, e.Stages[first])
	if n := len(e.Order) - 1; n > 0 {
		msg += fmt.Sprintf(" (and %d more)", n)
	}
	return msg
}

// Unwrap gives the errors of all failed stages to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Order))
	for i, name := range e.Order {
		errs[i] = e.Stages[name]
	}
	return errs
}

// Run runs the stages, each as soon as those it comes after are done, so that
// independent stages work side by side. It returns nil when every stage was
// checked to be as wanted, an *Error naming those that failed (what depends on
// them is skipped, the rest is finished), or ctx's error.
func Run(ctx context.Context, stages []Stage, opts Options) error {
	if err := validate(stages); err != nil {
		return err
	}
	r := &run{opts: opts.withDefaults(), stages: stages, ends: map[string]*end{}, told: map[string]bool{}}
	for _, s := range stages {
		r.ends[s.Name()] = &end{done: make(chan struct{})}
	}
	var wg sync.WaitGroup
	for _, s := range stages {
		wg.Go(func() { r.stage(ctx, s) })
	}
	wg.Wait()
	return r.result(ctx, stages)
}

// end is how one stage ended; the fields are set before done is closed.
type end struct {
	done    chan struct{}
	err     error
	skipped bool
}

type run struct {
	opts    Options
	stages  []Stage
	ends    map[string]*end
	mu      sync.Mutex // orders events
	skipped sync.Mutex // orders what is skipped, guards told
	told    map[string]bool
}

func (r *run) emit(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time = time.Now()
	r.opts.Events(e)
}

func (r *run) result(ctx context.Context, stages []Stage) error {
	failed := &Error{Stages: map[string]error{}}
	for _, s := range stages {
		if e := r.ends[s.Name()]; e.err != nil && !e.skipped {
			failed.Stages[s.Name()] = e.err
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

// stage waits for what s comes after, then runs it.
func (r *run) stage(ctx context.Context, s Stage) {
	e := r.ends[s.Name()]
	defer close(e.done)
	for _, need := range s.After() {
		before, ok := r.ends[need]
		if !ok {
			continue // not selected, so not needed
		}
		<-before.done
		if before.err != nil {
			e.err, e.skipped = before.err, true
			return
		}
	}
	t := &task{run: r, stage: s, since: time.Now(), backOff: r.newBackOff()}
	e.err = t.work(ctx)
	if e.err != nil {
		r.emit(Event{Stage: s.Name(), Kind: Failed, Attempt: t.attempt, Err: e.err, Since: t.since})
		if ctx.Err() == nil { // else the run was told to end, and the rest is pending
			r.skipAfter(s.Name())
		}
	}
}

// skipAfter tells which stages need the failed one, in the list's order.
func (r *run) skipAfter(failed string) {
	r.skipped.Lock()
	defer r.skipped.Unlock()
	gone := map[string]bool{failed: true}
	for _, s := range r.stages {
		for _, need := range s.After() {
			if !gone[need] {
				continue
			}
			gone[s.Name()] = true
			if !r.told[s.Name()] {
				r.told[s.Name()] = true
				r.emit(Event{Stage: s.Name(), Kind: Skipped, Message: need})
			}
			break
		}
	}
}

// newBackOff doubles the pause from MinBackOff to MaxBackOff; the factor 1
// spreads each pause evenly over 0 to twice its mean: full jitter, so that a
// thousand hosts that boot together do not ask together.
func (r *run) newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = r.opts.MinBackOff
	b.MaxInterval = r.opts.MaxBackOff
	b.Multiplier = 2
	b.RandomizationFactor = 1
	return b
}

// validate refuses lists that could never end: names used twice and cycles.
func validate(stages []Stage) error {
	seen := map[string]bool{}
	for _, s := range stages {
		if seen[s.Name()] {
			return fmt.Errorf("stage %s is listed twice", s.Name())
		}
		for _, need := range s.After() {
			if _, listed := Find(stages, need); listed && !seen[need] {
				return fmt.Errorf("stage %s comes after %s, which is listed later", s.Name(), need)
			}
		}
		seen[s.Name()] = true
	}
	return nil
}

// Interrupted tells whether err is the end of a context, not a stage's failure.
func Interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

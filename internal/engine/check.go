package engine

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Result is one stage's check.
type Result struct {
	Stage string
	Check CheckResult
	Err   error // the check could not be made
	Took  time.Duration
}

// CheckAll checks every stage side by side, each bounded by timeout, and
// returns the results in the list's order. Nothing is changed.
func CheckAll(ctx context.Context, stages []Stage, timeout time.Duration) []Result {
	results := make([]Result, len(stages))
	var wg sync.WaitGroup
	for i, s := range stages {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			start := time.Now()
			finding, err := s.Check(ctx)
			if err == nil && ctx.Err() != nil && !finding.OK() {
				err = cutOff(ctx, finding, timeout)
			}
			results[i] = Result{Stage: s.Name(), Check: finding, Err: err, Took: time.Since(start)}
		})
	}
	wg.Wait()
	return results
}

// cutOff is the error of a check that ran out of time: what it took for a
// difference may be nothing but a command that did not end, so it proves
// nothing, and a slow machine is not called a wrong one.
func cutOff(ctx context.Context, f CheckResult, timeout time.Duration) error {
	return fmt.Errorf("cannot tell within %s: %s: %w", timeout, f.Differences[0], ctx.Err())
}

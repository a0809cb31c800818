package engine

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Result is the outcome of checking one stage.
type Result struct {
	Stage string
	Check CheckResult
	Err   error // why the check could not be made
	Took  time.Duration
}

// CheckAll checks all stages in parallel and returns the results in the order
// of the list. Each check may take as long as timeout. Nothing is changed.
func CheckAll(ctx context.Context, stages []Stage, timeout time.Duration) []Result {
	results := make([]Result, len(stages))
	var wg sync.WaitGroup
	for i, s := range stages {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			start := time.Now()
			check, err := s.Check(ctx)
			if err == nil && ctx.Err() != nil && !check.OK() {
				err = checkTimeout(ctx, check, timeout)
			}
			results[i] = Result{Stage: s.Name(), Check: check, Err: err, Took: time.Since(start)}
		})
	}
	wg.Wait()
	return results
}

// checkTimeout returns the error of a check that reported a difference after
// its context ended. The difference may only be the output of a killed command,
// so it does not prove that the machine differs.
func checkTimeout(ctx context.Context, check CheckResult, timeout time.Duration) error {
	return fmt.Errorf("check timed out after %s: %s: %w", timeout, check.Differences[0], ctx.Err())
}

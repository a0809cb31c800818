package engine

import (
	"context"
	"sync"
	"time"
)

// Result is one stage's check.
type Result struct {
	Stage   string
	Finding Finding
	Err     error // the check could not be made
	Took    time.Duration
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
			results[i] = Result{Stage: s.Name(), Finding: finding, Err: err, Took: time.Since(start)}
		})
	}
	wg.Wait()
	return results
}

package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
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
			start := time.Now()
			check, err := checkStage(ctx, s, timeout)
			results[i] = Result{Stage: s.Name(), Check: check, Err: err, Took: time.Since(start)}
		})
	}
	wg.Wait()
	return results
}

// checkStage checks one stage within a limit. A difference that was found after
// the limit may only be the output of a killed command, so it does not prove
// that the machine differs: the result is an error.
func checkStage(ctx context.Context, s Stage, limit time.Duration) (CheckResult, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	check, err := s.Check(limited)
	if limited.Err() == nil || ctx.Err() != nil || err == nil && check.OK() {
		return check, err
	}
	if err == nil {
		err = errors.New(check.Differences[0].String())
	}
	return check, overtime(err, "check", limit)
}

// overtime returns the error of a call that ended after its limit. An error
// whose class is known states the cause better than the limit.
func overtime(err error, doing string, limit time.Duration) error {
	if class := fault.ClassOf(err); class == fault.Transient || class == fault.Permanent {
		return err
	}
	return &DeadlineError{Limit: limit, Doing: doing, Err: err}
}

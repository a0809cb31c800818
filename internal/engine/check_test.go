package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// slowStage is a stage whose check takes some time.
type slowStage struct {
	duration time.Duration
	result   engine.CheckResult
}

func (slowStage) Name() string    { return "slow" }
func (slowStage) After() []string { return nil }
func (slowStage) Apply(context.Context, engine.Progress) error {
	return errors.New("must not be applied")
}
func (s slowStage) Check(ctx context.Context) (engine.CheckResult, error) {
	select {
	case <-time.After(s.duration):
	case <-ctx.Done(): // like a check that misreads the output of a killed command
	}
	return s.result, nil
}

func TestDifferenceFoundAfterTheTimeoutIsAnError(t *testing.T) {
	differs := engine.CheckResult{Differences: []engine.Difference{{Object: "/usr/bin/calicoctl", Actual: "signal: terminated", Expected: "v3.23.0"}}}
	for name, c := range map[string]struct {
		stage   slowStage
		wantErr bool
	}{
		"in time and different": {slowStage{time.Second, differs}, false},
		"late and different":    {slowStage{time.Hour, differs}, true},
		"late and the same":     {slowStage{time.Hour, engine.CheckResult{}}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := engine.CheckAll(t.Context(), []engine.Stage{c.stage}, time.Minute)[0]
			if (r.Err != nil) != c.wantErr {
				t.Errorf("%s: the error is %v", name, r.Err)
			}
			const want = "check timed out after 1m0s: /usr/bin/calicoctl: signal: terminated, expected v3.23.0"
			if c.wantErr && r.Err.Error() != want {
				t.Errorf("%s: the error is %v, want %s", name, r.Err, want)
			}
		})
	}
}

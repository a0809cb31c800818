package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// looking is a stage whose check takes its time.
type looking struct {
	takes time.Duration
	sees  CheckResult
}

func (looking) Name() string                          { return "looking" }
func (looking) After() []string                       { return nil }
func (looking) Apply(context.Context, Progress) error { return errors.New("must not be applied") }
func (l looking) Check(ctx context.Context) (CheckResult, error) {
	select {
	case <-time.After(l.takes):
	case <-ctx.Done(): // as with a command that is ended, and then misread
	}
	return l.sees, nil
}

func TestACheckThatRanOutOfTimeProvesNothing(t *testing.T) {
	wrong := CheckResult{Differences: []Difference{{Object: "/usr/bin/calicoctl", Actual: "signal: terminated", Expected: "v3.23.0"}}}
	for name, c := range map[string]struct {
		stage   looking
		unknown bool
	}{
		"in time and wrong":  {looking{time.Second, wrong}, false},
		"too late and wrong": {looking{time.Hour, wrong}, true},
		"too late and right": {looking{time.Hour, CheckResult{}}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := CheckAll(t.Context(), []Stage{c.stage}, time.Minute)[0]
			if (r.Err != nil) != c.unknown {
				t.Errorf("%s: the error is %v", name, r.Err)
			}
			const says = "cannot tell within 1m0s: /usr/bin/calicoctl: signal: terminated, wanted v3.23.0: context deadline exceeded"
			if c.unknown && r.Err.Error() != says {
				t.Errorf("%s: the error is %v, want %s", name, r.Err, says)
			}
		})
	}
}

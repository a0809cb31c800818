package main

import (
	"testing"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
)

// TestPlanDoesNotPromiseWhatARunRefuses: what only a person can set right is
// nothing that a run would change.
func TestPlanDoesNotPromiseWhatARunRefuses(t *testing.T) {
	refused := engine.Difference{Object: "pool.cidr", Fix: "choose another", Stops: true}
	changed := engine.Difference{Object: "sysctl x"}
	for _, c := range []struct {
		want   string
		stages [][]engine.Difference
	}{
		{"nothing would change", [][]engine.Difference{nil, nil}},
		{"1 of 2 stages would change something", [][]engine.Difference{nil, {changed}}},
		{"a run would stop at a", [][]engine.Difference{{refused}, nil}},
		{"a run would stop at a; not as wanted besides: 1 of 2 stages", [][]engine.Difference{{refused}, {changed}}},
		{"1 of 1 stages would change something", [][]engine.Difference{{refused, changed}}},
	} {
		var checks report.Checks
		for i, all := range c.stages {
			checks.Add(engine.Result{Stage: string(rune('a' + i)), Check: engine.CheckResult{Differences: all}})
		}
		if got := planSummary(checks); got != c.want {
			t.Errorf("planSummary = %q, want %q", got, c.want)
		}
	}
}

package main

import (
	"testing"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
)

// run does not change what only a person can fix, so plan must not promise it.
func TestPlanSummaryCountsOnlyWhatRunWouldChange(t *testing.T) {
	refused := engine.Difference{Object: "pool.cidr", Fix: "choose another", Stops: true}
	changed := engine.Difference{Object: "sysctl x"}
	for _, c := range []struct {
		want   string
		stages [][]engine.Difference
	}{
		{"run would change nothing", [][]engine.Difference{nil, nil}},
		{"run would change 1 of 2 stages", [][]engine.Difference{nil, {changed}}},
		{"run would stop at a", [][]engine.Difference{{refused}, nil}},
		{"run would stop at a; 1 other stage differs", [][]engine.Difference{{refused}, {changed}}},
		{"run would change 1 of 1 stages", [][]engine.Difference{{refused, changed}}},
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

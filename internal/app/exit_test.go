package app_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

func TestExitCodes(t *testing.T) {
	refusal := &engine.Refusal{}
	failed := errors.New("no")
	run := func(causes ...error) error {
		e := &engine.Error{Stages: map[string]error{}}
		for i, c := range causes {
			name := fmt.Sprint(i)
			e.Stages[name], e.Order = c, append(e.Order, name)
		}
		return e
	}
	for _, c := range []struct {
		name string
		err  error
		code int
	}{
		{"success", nil, 0},
		{"a failed stage", run(failed), 1},
		{"a stage that timed out", run(context.DeadlineExceeded), 1},
		{"a stage with a canceled connection", run(context.Canceled), 1},
		{"a refusal and a failure", run(refusal, failed), 1},
		{"timeouts.total", &app.TotalTimeoutError{Limit: "1m"}, 1},
		{"a newer journal", &state.NewerError{}, 1},
		{"a wrong flag", &app.UsageError{Err: failed}, 2},
		{"a wrong key", fmt.Errorf("wrapped: %w", config.Problems{{}}), 3},
		{"a missing file", &app.ConfigError{Err: failed}, 3},
		{"a refusal", run(refusal), 4},
		{"a held lock", &state.LockHeldError{Holder: state.Holder{PID: 1}}, 5},
		{"a boot of a host that left", &app.LeftError{State: state.Left}, 12},
		{"changes pending", &app.ReportedError{Code: app.ExitPending}, 6},
		{"a signal", &app.SignalError{Signal: syscall.SIGTERM}, 130},
	} {
		if got := app.ExitCode(c.err); got != c.code {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.code)
		}
	}
	for st, code := range map[state.State]int{
		state.Complete: 0, state.Failed: 1, state.Refused: 4, state.Running: 7, state.NotStarted: 8,
		state.Drifted: 9, state.Foreign: 10, state.Unknown: 11, state.Left: 12,
	} {
		if got := app.StateExitCode(st); got != code {
			t.Errorf("%s: exit code %d, want %d", st, got, code)
		}
	}
}

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// hangingStage is a stage whose Apply ends with its context, like a call to a
// daemon that never answers.
type hangingStage struct {
	boolStage
	says string // its progress message; empty: none
	err  func(ctx context.Context) error
}

func (s *hangingStage) Apply(ctx context.Context, report engine.Progress) error {
	if s.says != "" {
		report(s.says, 0, 0)
	}
	<-ctx.Done()
	return s.err(ctx)
}

// limitedStage sets its own limit.
type limitedStage struct {
	hangingStage
	limit time.Duration
}

func (s *limitedStage) ApplyLimit() time.Duration { return s.limit }

func TestApplyEndsAtItsLimitAndReportsWhatItDid(t *testing.T) {
	cause := func(ctx context.Context) error { return ctx.Err() }
	wrapped := func(ctx context.Context) error { return fmt.Errorf("cannot load the image: %w", ctx.Err()) }
	for name, c := range map[string]struct {
		stage engine.Stage
		took  time.Duration
		want  string
	}{
		"the default": {
			&hangingStage{boolStage{name: "s"}, "", cause}, 10 * time.Minute, "stage s failed: changing s timed out after 10m0s",
		},
		"with progress": {
			&hangingStage{boolStage{name: "s"}, "loading the image", wrapped}, 10 * time.Minute,
			"stage s failed: loading the image timed out after 10m0s: cannot load the image: context deadline exceeded",
		},
		"its own limit": {
			&limitedStage{hangingStage{boolStage{name: "s"}, "starting", cause}, 2 * time.Minute}, 2 * time.Minute,
			"stage s failed: starting timed out after 2m0s",
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := engine.Run(t.Context(), []engine.Stage{c.stage}, engine.Options{Attempts: 2, MinBackOff: time.Nanosecond, MaxBackOff: time.Nanosecond})
			if err == nil || err.Error() != c.want {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			if took := time.Since(start).Round(time.Second); took != 2*c.took {
				t.Errorf("%s: two attempts took %v, want %v each", name, took, c.took)
			}
		})
	}
}

func TestCheckEndsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hangingCheck{}
		err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{Attempts: 2, CheckTimeout: 30 * time.Second})
		if err == nil || !strings.Contains(err.Error(), "check timed out after 30s: cannot reach Docker") || s.checks != 2 {
			t.Errorf("%d checks, %v", s.checks, err)
		}
	})
}

type hangingCheck struct {
	boolStage
	checks int
}

func (*hangingCheck) Name() string { return "hanging" }
func (s *hangingCheck) Check(ctx context.Context) (engine.CheckResult, error) {
	s.checks++
	<-ctx.Done()
	return engine.CheckResult{}, fmt.Errorf("cannot reach Docker: %w", ctx.Err())
}

// A difference that a check reports after its limit proves nothing, so a run
// must not act on it.
func TestDifferenceFoundAfterTheLimitIsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowStage{time.Hour, engine.CheckResult{Differences: []engine.Difference{{Object: "calicoctl", Actual: "killed"}}}}
		err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{Attempts: 1})
		if err == nil || !strings.Contains(err.Error(), "check timed out after 1m0s: calicoctl: killed") {
			t.Errorf("got %v", err)
		}
	})
}

// The class of an error decides, whatever wraps it.
func TestClassOfAnErrorDecidesWhatFollows(t *testing.T) {
	plain := errors.New("no")
	transient := &fault.Error{Class: fault.Transient, Kind: fault.Refused, Subject: "the registry", Err: plain}
	retryable, permanent := fault.New(fault.Retryable, fault.Lock, plain), fault.New(fault.Permanent, fault.HTTP4xx, plain)
	for _, c := range []struct {
		name         string
		err          error
		check, apply engine.Kind
	}{
		{"an unclassified error", plain, engine.Retrying, engine.Failed},
		{"a transient error", fmt.Errorf("cannot pull: %w", transient), engine.Waiting, engine.Waiting},
		{"a retryable error", retryable, engine.Retrying, engine.Retrying},
		{"a permanent error", permanent, engine.Failed, engine.Failed},
		{"a wait", &engine.Wait{For: "etcd", Err: plain}, engine.Waiting, engine.Waiting},
		{"a wait for a permanent error", &engine.Wait{For: "the image", Err: permanent}, engine.Failed, engine.Failed},
		{"a retry", &engine.Retry{Err: plain}, engine.Retrying, engine.Retrying},
		{"a retry of a permanent error", &engine.Retry{Err: permanent}, engine.Failed, engine.Failed},
		{"a retry of a transient error", &engine.Retry{Err: transient}, engine.Waiting, engine.Waiting},
		{"a retry of an error whose limit passed", &engine.Retry{Err: fault.New(fault.Retryable, fault.Timeout, transient)}, engine.Retrying, engine.Retrying},
		{"a refusal", &engine.Refusal{}, engine.Failed, engine.Failed},
	} {
		if got := firstReaction(t, &boolStage{name: "s", check: func() error { return c.err }}); got != c.check {
			t.Errorf("%s of Check: %s, want %s", c.name, got, c.check)
		}
		if got := firstReaction(t, &boolStage{name: "s", apply: func(*boolStage, context.Context) error { return c.err }}); got != c.apply {
			t.Errorf("%s of Apply: %s, want %s", c.name, got, c.apply)
		}
	}
}

// firstReaction returns the kind of the event that follows the first attempt.
func firstReaction(t *testing.T, s engine.Stage) engine.Kind {
	t.Helper()
	var first engine.Kind
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_ = engine.Run(ctx, []engine.Stage{s}, engine.Options{Events: func(e engine.Event) {
			if first == "" && slices.Contains([]engine.Kind{engine.Waiting, engine.Retrying, engine.Failed}, e.Kind) {
				first = e.Kind
				cancel()
			}
		}})
	})
	return first
}

func TestTransientErrorWaitsForItsSubjectAsLongAsTheServerRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := &boolStage{name: "s", apply: func(s *boolStage, _ context.Context) error {
			if calls++; calls == 1 {
				return &fault.Error{Class: fault.Transient, Kind: fault.HTTP5xx, Subject: "the registry quay.io", After: time.Minute, Err: errors.New("503")}
			}
			s.done = true
			return nil
		}}
		var wait engine.Event
		err := engine.Run(t.Context(), []engine.Stage{s}, engine.Options{Events: func(e engine.Event) {
			if e.Kind == engine.Waiting {
				wait = e
			}
		}})
		if err != nil || wait.Message != "the registry quay.io" || wait.Err.Error() != "503" || wait.Next.Sub(wait.Time) < time.Minute {
			t.Errorf("%v: waited for %q (%v) until %v", err, wait.Message, wait.Err, wait.Next.Sub(wait.Time))
		}
	})
}

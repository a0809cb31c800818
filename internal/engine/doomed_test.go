package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// runDoomed runs the stages in virtual time and checks that the run fails
// because of the stage bad alone. It returns the events and the time it took.
func runDoomed(t *testing.T, stages ...engine.Stage) (log *eventLog, took time.Duration) {
	t.Helper()
	log = &eventLog{}
	start := time.Now()
	err := engine.Run(t.Context(), stages, engine.Options{Events: log.add})
	var failed *engine.Error
	if !errors.As(err, &failed) || !slices.Equal(failed.Order, []string{"bad"}) {
		t.Fatalf("got %v: %s", err, log)
	}
	return log, time.Since(start)
}

func failing(after time.Duration) *boolStage {
	return &boolStage{name: "bad", took: after, apply: func(*boolStage, context.Context) error { return errors.New("no") }}
}

// waits is a check that waits for Docker until the given time has passed.
func waits(d time.Duration) func() error {
	start := time.Now()
	return func() error {
		if time.Since(start) < d {
			return &engine.Wait{For: "Docker to start", Err: errors.New("docker.service is inactive")}
		}
		return nil
	}
}

func TestRunThatCannotSucceedEndsAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docker := &boolStage{name: "docker", check: waits(24 * time.Hour)}
		log, took := runDoomed(t, failing(9*time.Minute), docker, &boolStage{name: "node", after: []string{"docker"}})
		if took < 10*time.Minute || took > 10*time.Minute+time.Second {
			t.Errorf("the run took %v, want nine minutes and the grace of a minute", took)
		}
		last := log.events[len(log.events)-2]
		if last.Kind != engine.Stopped || last.Err.Error() != "stopped waiting for Docker to start, because bad failed: docker.service is inactive" {
			t.Errorf("%s: %v", last.Kind, last.Err)
		}
		if log.skipped() != "node docker" {
			t.Errorf("skipped %s", log.skipped())
		}
	})
}

func TestStagesThatMakeProgressFinishAfterAFailure(t *testing.T) {
	for name, other := range map[string]func() *boolStage{
		"works for long":    func() *boolStage { return &boolStage{took: 9 * time.Minute} },
		"waits for a while": func() *boolStage { return &boolStage{check: waits(40 * time.Second)} },
		"works, then waits": func() *boolStage {
			s := &boolStage{}
			s.apply = func(s *boolStage, _ context.Context) error {
				time.Sleep(9 * time.Minute)
				s.check = waits(30 * time.Second)
				s.done = true
				return nil
			}
			return s
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := other()
			s.name = "other"
			next := &boolStage{name: "next", after: []string{"other"}}
			log, _ := runDoomed(t, failing(0), s, next)
			if !s.done || !next.done {
				t.Errorf("%s: the independent stages were not finished: %s", name, log)
			}
		})
	}
}

// Neither a long pause that a server requests nor a change of the reason
// prolongs the grace.
func TestGraceIsNotProlonged(t *testing.T) {
	n := 0
	for name, err := range map[string]func() error{
		"a long pause": func() error { return &engine.Wait{For: "the mirror", After: time.Hour} },
		"two reasons in turn": func() error {
			n++
			return &engine.Wait{For: fmt.Sprintf("server %d", n%2)}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, took := runDoomed(t, failing(0), &boolStage{name: "other", check: err})
			if took < time.Minute || took > time.Minute+time.Second {
				t.Errorf("%s: the run took %v, want a minute", name, took)
			}
		})
	}
}

func TestWaitHasNoLimitWhileTheRunCanSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &boolStage{name: "docker", check: waits(48 * time.Hour)}
		if err := engine.Run(t.Context(), []engine.Stage{s, &boolStage{name: "other"}}, engine.Options{}); err != nil {
			t.Error(err)
		}
	})
}

func TestInterruptionEndsTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := engine.Run(ctx, []engine.Stage{failing(0), &boolStage{name: "other", check: waits(time.Hour)}}, engine.Options{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

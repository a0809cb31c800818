// Package engine brings a machine to its desired state in stages. It checks a
// stage, applies it if the check finds a difference, and checks again; a stage
// is done only when a check finds no difference. The package implements order,
// dependencies, retries, deadlines and events. It knows nothing about what the
// stages configure.
package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Stage is one step of a host's provisioning. Check examines the machine and
// never changes it. Apply changes it and may be called again at any time.
type Stage interface {
	// Name returns the stage's fixed name, as users type it.
	Name() string
	// After names the stages that must be done before this one starts.
	After() []string
	// Check compares the machine with the desired state. An error means that
	// the check could not be made. ctx ends after Options.CheckTimeout.
	//
	// The class of an error of Check and Apply decides what follows (package
	// fault): transient, such as a *Wait: the stage waits visibly; retryable,
	// such as a *Retry: another attempt; permanent, such as a *Refusal: the stage
	// fails. An unclassified error of Check is retryable, one of Apply permanent.
	Check(ctx context.Context) (CheckResult, error)
	// Apply brings the machine to the desired state. ctx ends after the stage's
	// limit (Limited), or Options.ApplyTimeout. Apply reports progress through
	// report, which is never nil; if the limit passes, the error contains the
	// last message.
	Apply(ctx context.Context, report Progress) error
}

// Limited is a stage that sets its own limit for one Apply.
type Limited interface {
	Stage
	ApplyLimit() time.Duration
}

// CheckResult is the result of a check.
type CheckResult struct {
	Differences []Difference
	Warnings    []string
	Notes       []string // shown in verbose output
}

// OK reports whether the check found no difference.
func (c CheckResult) OK() bool { return len(c.Differences) == 0 }

// Add adds a difference.
func (c *CheckResult) Add(d Difference) { c.Differences = append(c.Differences, d) }

// Warn adds a warning.
func (c *CheckResult) Warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// Difference is one difference between the machine and its desired state.
type Difference struct {
	Name     string // short stable name; a configuration can demote a finding by it
	Object   string // a path, a unit, a sysctl key
	Actual   string // what the machine has
	Expected string // what it must have
	Fix      string // what a person can do about it; empty if firstboot fixes it
	Diff     string // a unified diff if the object is a file
	// Stops reports that firstboot must not change the object: Apply refuses,
	// and the run stops at this stage.
	Stops bool
}

// String returns the difference in one line.
func (d Difference) String() string {
	var b strings.Builder
	b.WriteString(d.Object)
	if d.Actual != "" {
		fmt.Fprintf(&b, ": %s", d.Actual)
	}
	if d.Expected != "" {
		fmt.Fprintf(&b, ", expected %s", d.Expected)
	}
	return b.String()
}

// Progress receives the progress of a long step. done and total are in the unit
// that message names (bytes for downloads); total is 0 if it is unknown.
type Progress func(message string, done, total int64)

// Find returns the stage with this name.
func Find(stages []Stage, name string) (Stage, bool) {
	for _, s := range stages {
		if s.Name() == name {
			return s, true
		}
	}
	return nil, false
}

// Companion is a stage that needs others in the same run, but does not start after
// them: it waits itself for what they do.
type Companion interface {
	With() []string
}

// Select returns the named stages and all stages that they need, in the order of
// the list. Without names it returns all stages. The error about an unknown name
// lists the known ones.
func Select(stages []Stage, names []string) ([]Stage, error) {
	if len(names) == 0 {
		return stages, nil
	}
	needed := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if needed[name] {
			return nil
		}
		s, ok := Find(stages, name)
		if !ok {
			return fmt.Errorf("unknown stage %q; the stages are %s", name, strings.Join(Names(stages), ", "))
		}
		needed[name] = true
		others := s.After()
		if c, ok := s.(Companion); ok {
			others = append(slices.Clone(others), c.With()...)
		}
		for _, other := range others {
			if err := add(other); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	var selected []Stage
	for _, s := range stages {
		if needed[s.Name()] {
			selected = append(selected, s)
		}
	}
	return selected, nil
}

// Names returns the names of the stages, in order.
func Names(stages []Stage) []string {
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = s.Name()
	}
	return names
}

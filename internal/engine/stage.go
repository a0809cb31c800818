// Package engine brings a machine to a wanted state by stages: it checks a
// stage, applies it where something differs, and checks again; only the second
// check makes the stage done. It knows order, dependencies, retries, deadlines
// and events, and nothing of what the stages are about.
package engine

import (
	"context"
	"fmt"
	"strings"
)

// Stage is one thing a machine becomes. Check looks and never changes
// anything; Apply makes it so and may be called again at any time.
type Stage interface {
	// Name is the stage's fixed name, as users type it.
	Name() string
	// After names the stages that must be done before this one starts.
	After() []string
	// Check reports what differs from the wanted state. An error says that
	// the check could not be made; it is a *Wait where time can cure that.
	Check(ctx context.Context) (CheckResult, error)
	// Apply makes the machine as wanted. It returns a *Wait for what time
	// cures, a *Retry for what another try may cure, a *Refusal where the
	// machine must not be touched, and any other error where trying again
	// is useless. It reports progress through report, which is never nil.
	Apply(ctx context.Context, report Progress) error
}

// CheckResult is what a check saw.
type CheckResult struct {
	Differences []Difference
	Warnings    []string
	Notes       []string // facts worth a line in verbose output
}

// OK tells whether the machine is as wanted.
func (f CheckResult) OK() bool { return len(f.Differences) == 0 }

// Differ adds a difference.
func (f *CheckResult) Add(d Difference) { f.Differences = append(f.Differences, d) }

// Warn adds a warning.
func (f *CheckResult) Warn(format string, args ...any) {
	f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...))
}

// Difference is one way in which the machine is not as wanted.
type Difference struct {
	Name     string // short stable name, for findings that a configuration can demote
	Object   string // the object: a path, a unit, a sysctl key
	Actual   string // what the machine has
	Expected string // what it should have
	Fix      string // what a person can do about it; empty when firstboot does it
	Diff     string // a unified diff, where the object is a file
	// Stops says that it is not firstboot's to change: Apply refuses it, and a
	// run ends there.
	Stops bool
}

// String is the difference in one line.
func (d Difference) String() string {
	var b strings.Builder
	b.WriteString(d.Object)
	if d.Actual != "" {
		fmt.Fprintf(&b, ": %s", d.Actual)
	}
	if d.Expected != "" {
		fmt.Fprintf(&b, ", wanted %s", d.Expected)
	}
	return b.String()
}

// Progress receives how far a long step is. Total is 0 where unknown; both are
// in the unit that message names (bytes for downloads).
type Progress func(message string, done, total int64)

// Find returns the stage of that name.
func Find(stages []Stage, name string) (Stage, bool) {
	for _, s := range stages {
		if s.Name() == name {
			return s, true
		}
	}
	return nil, false
}

// Select returns the named stages and all they need, in the list's order. No
// names select everything; an unknown name is an error that lists the known.
func Select(stages []Stage, names []string) ([]Stage, error) {
	if len(names) == 0 {
		return stages, nil
	}
	wanted := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if wanted[name] {
			return nil
		}
		s, ok := Find(stages, name)
		if !ok {
			return fmt.Errorf("unknown stage %q; the stages are %s", name, strings.Join(Names(stages), ", "))
		}
		wanted[name] = true
		for _, need := range s.After() {
			if err := add(need); err != nil {
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
		if wanted[s.Name()] {
			selected = append(selected, s)
		}
	}
	return selected, nil
}

// Names lists the stages' names in order.
func Names(stages []Stage) []string {
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = s.Name()
	}
	return names
}

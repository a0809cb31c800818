// Package app runs a command about a machine from beginning to end: it opens
// the machine, takes the lock, loads the configuration, runs or checks the
// stages, writes the marker and reports the result. It knows the order of these
// steps and the exit codes. It does not know what the stages do; a function
// passed in creates them.
package app

import (
	"context"
	"net/http"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// Notes stores facts across checks and boots that cannot be read from the
// machine.
type Notes interface {
	Notes() state.Notes
	SetNotes(change func(*state.Notes)) error
}

// BuildOptions are the inputs of a Build function.
type BuildOptions struct {
	Host   *host.Host
	Config *config.Config // nil if only the names and order of the stages are needed
	Notes  Notes          // nil in the same case
}

// StageSet is what a Build function creates.
type StageSet struct {
	Stages []engine.Stage
	// Prefetch fetches artifacts in parallel with the stages, until its context
	// ends. It is nil if there is nothing to fetch.
	Prefetch func(ctx context.Context)
	// Leave returns the steps that take the host out of its network. The first
	// step refuses if containers need the network, unless force is set.
	Leave func(force bool) []engine.Stage
	// RemoveStale removes the endpoints and interfaces of containers that no
	// longer run, before Docker starts, and returns their numbers. It may be nil.
	RemoveStale func(ctx context.Context) (endpoints, links int, err error)
	// RestoreNetwork writes what the adapter must know about its network before
	// Docker starts, if that is missing, and reports whether it did. It may be nil.
	RestoreNetwork func(ctx context.Context) (restored bool, err error)
	// Network describes the mode of the host's network in one line, "" if it is
	// unknown. It may be nil.
	Network func(ctx context.Context) string
}

// Build creates the stages.
type Build func(BuildOptions) (StageSet, error)

// Prober is a stage whose check relies on an earlier test. Probe repeats the
// test; it may start and remove a container.
type Prober interface {
	Probe(ctx context.Context) error
}

// Options are the options of every command about a machine.
type Options struct {
	Root    string   // the root directory of an image; "" and "/" mean this machine
	Files   []string // --config
	Version string   // of this binary
	Build   Build
	// Cmdline replaces the kernel command line, and CredentialsDir is systemd's
	// credentials directory; see config.Options.
	Cmdline, CredentialsDir string

	// For tests.
	Host      []host.Option
	Transport http.RoundTripper // fetches a configuration by URL; nil: http.DefaultTransport
}

// Package app is one run from its first look at the marker to the marker
// that it writes, and the commands that look at what a run did: status, plan
// and verify. It knows the order of these things and the exit codes; what the
// stages do it does not know: they come in as a function.
package app

import (
	"context"
	"fmt"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// Notes keeps facts across checks and boots that the machine does not tell.
type Notes interface {
	Notes() state.Notes
	SetNotes(change func(*state.Notes)) error
}

// Parts is what stages are made from.
type BuildOptions struct {
	Host   *host.Host
	Config *config.Config // nil where only names and order are asked for
	Notes  Notes          // nil likewise
}

// Work is what a run does.
type StageSet struct {
	Stages []engine.Stage
	// Prefetch works beside the stages from the start, until its context
	// ends; nil where there is nothing to fetch ahead.
	Prefetch func(ctx context.Context)
	// Leave lists the steps out of the network, the first of which refuses
	// where containers need it; strand takes it from under them.
	Leave func(strand bool) []engine.Stage
}

// Build makes the stages.
type Build func(BuildOptions) (StageSet, error)

// Prober is a stage whose check relies on a test that was made before; Probe
// makes the test anew. It may start and remove a container.
type Prober interface {
	Probe(ctx context.Context) error
}

// Options are what every command about a machine needs.
type Options struct {
	Root    string   // of an image; "" and "/" are this machine
	Files   []string // --config
	Version string   // of this binary
	Build   Build
	Host    []host.Option // for tests
	// Cmdline stands for the kernel's command line, and CredentialsDir for
	// the folder of systemd's credentials; see config.Options.
	Cmdline, CredentialsDir string
}

// site is the machine, or root folder, that a command is about.
type site struct {
	Options
	state *host.Host     // for firstboot's own folders
	this  state.Machine  // which machine it is
	order []engine.Stage // the stages, good for names and order only
}

func open(o Options) (*site, error) {
	s := &site{Options: o}
	s.state = s.host()
	s.this = state.ThisMachine(s.state)
	work, err := o.Build(BuildOptions{Host: s.state})
	if err != nil {
		return nil, err
	}
	s.order = work.Stages
	return s, nil
}

// host opens the machine. What a root folder cannot tell is not asked of the
// machine that the command runs on.
func (s *site) host(more ...host.Option) *host.Host {
	options := append(more, s.Host...)
	if h := host.New(s.Root); !h.Live() {
		options = append([]host.Option{host.Offline()}, options...)
	}
	return host.New(s.Root, options...)
}

// looksAlive tells whether more than files can be looked at: on the running
// machine, and in a test that stands for one.
func (s *site) looksAlive() bool { return s.state.Live() || len(s.Host) > 0 }

// names lists the stages in order.
func (s *site) names() []string { return engine.Names(s.order) }

// build makes the stages that can work.
func (s *site) build(h *host.Host, cfg *config.Config, notes Notes) (StageSet, error) {
	work, err := s.Build(BuildOptions{Host: h, Config: cfg, Notes: notes})
	if err != nil {
		return StageSet{}, fmt.Errorf("cannot make the stages: %w", err)
	}
	return work, nil
}

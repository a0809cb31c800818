package app

import (
	"fmt"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// machine is the machine, or the root directory, that a command works on.
type machine struct {
	Options
	state    *host.Host     // for firstboot's own directories
	identity state.Machine  // of this machine
	records  *state.Records // of its state
	stages   []engine.Stage // only for their names and order
	denied   bool           // this user may not read the state
}

func open(o Options) (*machine, error) {
	m := &machine{Options: o}
	m.state = m.openHost()
	m.identity = state.ThisMachine(m.state)
	m.records = state.OpenRecords(m.state, m.identity)
	set, err := o.Build(BuildOptions{Host: m.state})
	if err != nil {
		return nil, err
	}
	m.stages = set.Stages
	return m, nil
}

// openHost opens the machine. For a root directory it is offline: what files
// cannot answer must not be read from the machine that runs the command.
func (m *machine) openHost(more ...host.Option) *host.Host {
	options := append(more, m.Host...)
	if h := host.New(m.Root); !h.Live() {
		options = append([]host.Option{host.Offline()}, options...)
	}
	return host.New(m.Root, options...)
}

// checkable reports whether the checks of the stages work: on a running machine,
// and in a test that replaces it.
func (m *machine) checkable() bool { return m.state.Live() || len(m.Host) > 0 }

// stageNames returns the names of the stages, in order.
func (m *machine) stageNames() []string { return engine.Names(m.stages) }

// build creates stages that can be checked and applied.
func (m *machine) build(h *host.Host, cfg *config.Config, notes Notes) (StageSet, error) {
	set, err := m.Build(BuildOptions{Host: h, Config: cfg, Notes: notes})
	if err != nil {
		return StageSet{}, fmt.Errorf("cannot create the stages: %w", err)
	}
	return set, nil
}

package state

import (
	"errors"
	"maps"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// StageState is the state of a stage.
type StageState string

// The states of a stage.
const (
	StageOK      StageState = "ok"      // the first check found no difference
	StageChanged StageState = "changed" // it was applied
	StageFailed  StageState = "failed"
	StagePending StageState = "pending"
	StageRunning StageState = "running"
	StageSkipped StageState = "skipped" // a stage before it failed
	StageUnknown StageState = "unknown" // its check could not be made
)

// Stage is the record of one stage. Times are UTC.
type Stage struct {
	Name      string     `json:"name"`
	State     StageState `json:"state"`
	Attempts  int        `json:"attempts"`
	Seconds   float64    `json:"seconds"`
	Started   time.Time  `json:"started,omitzero"`
	Error     string     `json:"error,omitempty"`
	Hint      string     `json:"hint,omitempty"`
	WaitsFor  string     `json:"waits_for,omitempty"`
	WaitSince time.Time  `json:"wait_since,omitzero"`
	NextRetry time.Time  `json:"next_retry,omitzero"`
	Warnings  []string   `json:"warnings,omitempty"`
	// Differences are the findings of a refusal, or what a check found.
	Differences []Difference `json:"differences,omitempty"`
}

// Difference is one difference between the actual and the expected machine.
type Difference struct {
	Name     string `json:"name,omitempty"`
	Object   string `json:"what"`
	Actual   string `json:"seen"`
	Expected string `json:"want,omitempty"`
	Fix      string `json:"fix,omitempty"` // what a person must do; "" if firstboot does it
}

// Journal is the record of the current run, or of the last one.
type Journal struct {
	Schema       int       `json:"schema"`
	State        State     `json:"state"`
	Version      string    `json:"version"`
	ConfigDigest string    `json:"config_digest"`
	Machine      Machine   `json:"machine"`
	BootID       string    `json:"boot_id"`
	Attempt      int       `json:"attempt"` // number of runs since the machine was last complete
	Started      time.Time `json:"started"` // of this run
	Finished     time.Time `json:"finished,omitzero"`
	Error        string    `json:"error,omitempty"` // of a run that ended before its first stage
	Stages       []Stage   `json:"stages"`
	ConfigFiles  []string  `json:"config_files,omitempty"` // --config of the saved configuration; empty: the default sources
	Notes        Notes     `json:"notes,omitzero"`
	Saves        int       `json:"saves,omitempty"` // number of times that this run has written its journal
}

// Notes are facts that a later check needs and cannot read from the machine.
type Notes struct {
	// StoreReloaded is the time when dockerd reloaded its configuration with a
	// cluster store where none was set before. (Docker also shows a store that
	// has no effect, so its answer does not prove it.)
	StoreReloaded time.Time `json:"store_reloaded,omitzero"`
	// Outdated maps a unit that must be restarted or reloaded to the time of the start
	// that has read the old files. The time only tells one start from another.
	Outdated map[string]time.Time `json:"outdated,omitempty"`
	// FilesReloaded is the time when udevd and NetworkManager last reloaded
	// their files.
	FilesReloaded time.Time `json:"files_reloaded,omitzero"`
	// Installed is what firstboot installed, or found and verified, by the
	// artifact's name.
	Installed map[string]Installed `json:"installed,omitempty"`
	// Calicoctl is the installed calicoctl, whose digest and version were checked.
	Calicoctl Program `json:"calicoctl,omitzero"`
	// Packaged has the plugin's files whose digests rpm has compared, with their stamps
	// (host.Stamp).
	Packaged map[string]string `json:"packaged,omitempty"`
	// Probe is the last successful test with a probe container.
	Probe Probe `json:"probe,omitzero"`
	// Network is the mode of the Docker network that preflight decided on.
	Network Network `json:"network,omitzero"`
}

// ForgetDigests makes the next check read files again that have not changed.
func (n *Notes) ForgetDigests() { n.Calicoctl, n.Packaged = Program{}, nil }

// IsOutdated reports whether the unit that became active at since must be restarted or
// reloaded.
func (n Notes) IsOutdated(unit string, since time.Time) bool {
	noted, found := n.Outdated[unit]
	return found && noted.Equal(since)
}

// SetOutdated records that the unit that became active at since must be restarted or
// reloaded. The zero time removes the record.
func (n *Notes) SetOutdated(unit string, since time.Time) {
	all := maps.Clone(n.Outdated) // others may be reading it
	if all == nil {
		all = map[string]time.Time{}
	}
	all[unit] = since
	if since.IsZero() {
		delete(all, unit)
	}
	n.Outdated = all
}

// Network records the mode of a host's Docker network. Only run --force decides
// again.
type Network struct {
	Mode   string `json:"mode"` // local or global
	Reason string `json:"reason"`
	// Again makes the next check decide again, as if nothing was recorded and the
	// host was not complete. It is never stored.
	Again bool `json:"-"`
}

// String returns the mode with its reason, "" if no mode is recorded.
func (n Network) String() string {
	if n.Mode == "" {
		return ""
	}
	return n.Mode + " (" + n.Reason + ")"
}

// Installed records from which file an image or a package on this machine comes.
type Installed struct {
	// Artifact identifies the file: its sha256 or, if only a signature pins it,
	// "url-" and the sha256 of its URL.
	Artifact string `json:"artifact"`
	SHA256   string `json:"sha256"` // of the file
	// ID identifies what the machine then had: an image's ID, or a package's name,
	// version, release and digest.
	ID   string    `json:"id"`
	Time time.Time `json:"time,omitzero"` // of the installation; zero: it was already installed
}

// Program records an executable that was checked.
type Program struct {
	SHA256  string `json:"sha256"`
	Version string `json:"version"` // that it printed
	Stamp   string `json:"stamp"`   // host.Stamp; another one means another file
}

// Probe records a successful test with a probe container.
type Probe struct {
	BootID    string    `json:"boot_id"`
	NetworkID string    `json:"network_id"`
	Address   string    `json:"address"`
	Time      time.Time `json:"time"`
}

// LoadJournal reads the journal. found is false if it does not exist. If the run
// that wrote it has recorded more in ProgressPath during this boot, it returns that.
func LoadJournal(h *host.Host) (j Journal, found bool, err error) {
	if found, err = load(h, JournalPath, &j); !found {
		return Journal{}, false, err
	}
	var progress Journal
	// One that cannot be used only lacks what a power cut would lose.
	if found, err := load(h, ProgressPath, &progress); err == nil && found && progress.continues(j) && progress.BootID == h.BootID() {
		return progress, true, nil
	}
	return j, true, nil
}

// continues reports whether j is a later journal of the same run as saved.
func (j *Journal) continues(saved Journal) bool {
	return j.Machine.Same(saved.Machine) && j.BootID == saved.BootID && j.Started.Equal(saved.Started) && j.Saves > saved.Saves
}

func (j *Journal) check() error { return j.Machine.check() }

// save writes the journal to path. It cuts texts that are too long, in j as well.
func (j *Journal) save(h *host.Host, path string) error {
	j.Schema = Schema
	j.Saves++
	j.bound()
	err := save(h, path, j)
	if errors.Is(err, errTooLarge) {
		j.shorten()
		err = save(h, path, j)
	}
	return err
}

// Stage returns the record of a stage. It adds a missing one.
func (j *Journal) Stage(name string) *Stage {
	for i := range j.Stages {
		if j.Stages[i].Name == name {
			return &j.Stages[i]
		}
	}
	j.Stages = append(j.Stages, Stage{Name: name, State: StagePending})
	return &j.Stages[len(j.Stages)-1]
}

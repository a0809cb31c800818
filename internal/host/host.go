// Package host is the only access to the machine: files under a root
// directory, commands with timeouts, kernel settings, network, systemd, and
// sockets. No other package touches the machine, so all others can be tested
// against a temporary root and replaced commands.
package host

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"path/filepath"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Host is a machine, or a root directory with a machine's files.
type Host struct {
	root      string
	exec      Executor
	systemd   Systemd
	network   Network
	manifest  Manifest
	step      func(op, target string)
	recorded  func(FileOp) // nil: not recorded
	freeSpace func(path string) (uint64, error)
	answers   *answers
	hashing   func(path string)
}

// Option changes how a Host accesses its machine.
type Option func(*Host)

// WithExecutor runs commands with e.
func WithExecutor(e Executor) Option { return func(h *Host) { h.exec = e } }

// WithSystemd controls units with s.
func WithSystemd(s Systemd) Option { return func(h *Host) { h.systemd = s } }

// WithNetwork reads addresses and routes from n.
func WithNetwork(n Network) Option { return func(h *Host) { h.network = n } }

// Manifest lists the files that are written, so that a reset can remove exactly
// these. Paths are without the root.
type Manifest interface {
	// Record lists a file with its sha256 before it gets its name. An empty digest
	// means that the path was removed.
	Record(path, sha256 string)
	// Expect lists files that are about to be written, with their digests.
	Expect(files map[string]string)
}

// WithManifest lists every file that is written in m.
func WithManifest(m Manifest) Option { return func(h *Host) { h.manifest = m } }

// Expect announces files that are about to be written, so that the manifest lists
// them all in one write instead of each in its own. programs are further paths,
// with their digests.
func (h *Host) Expect(files []File, programs map[string]string) {
	expected := maps.Clone(programs)
	if expected == nil {
		expected = map[string]string{}
	}
	for _, f := range files {
		digest := sha256.Sum256(f.Data)
		expected[f.Path] = hex.EncodeToString(digest[:])
	}
	if len(expected) > 0 {
		h.manifest.Expect(expected)
	}
}

// noManifest lists nothing.
type noManifest struct{}

func (noManifest) Record(string, string)    {}
func (noManifest) Expect(map[string]string) {}

// WithStep calls step before every change of the machine: op is write, sync,
// rename, remove, mkdir, chmod, link, command, sysctl, module or unit. The crash
// matrix kills the process at these points.
func WithStep(step func(op, target string)) Option {
	return func(h *Host) { h.step = step }
}

// WithHashing calls hashing before each file whose sha256 is computed, with its
// path, for tests that count.
func WithHashing(hashing func(path string)) Option { return func(h *Host) { h.hashing = hashing } }

// WithFreeSpace gets the free space from free, which receives a path without
// the root and returns bytes.
func WithFreeSpace(free func(path string) (uint64, error)) Option {
	return func(h *Host) { h.freeSpace = free }
}

// New returns the machine whose files are under root. "" and "/" mean the
// machine that this process runs on.
func New(root string, options ...Option) *Host {
	h := &Host{
		root:     filepath.Clean("/" + root),
		manifest: noManifest{},
		step:     func(string, string) {},
		answers:  &answers{outputs: map[string]Output{}},
		hashing:  func(string) {},
	}
	for _, o := range options {
		o(h)
	}
	if h.exec == nil {
		h.exec = localExecutor{}
	}
	if h.systemd == nil {
		h.systemd = newSystemdConn(h.step)
	}
	if h.network == nil {
		h.network = kernelNetwork{}
	}
	if h.freeSpace == nil {
		h.freeSpace = h.statFreeSpace
	}
	return h
}

// Root is the directory that stands for "/".
func (h *Host) Root() string { return h.root }

// Live reports whether the host is the machine that this process runs on, and
// not a root directory.
func (h *Host) Live() bool { return h.root == "/" }

// Step reports a change of the machine that a server makes for the caller: a
// request on a Socket (WithStep).
func (h *Host) Step(op, target string) { h.step(op, target) }

// Systemd controls the machine's units.
func (h *Host) Systemd() Systemd { return h.systemd }

// Network reads the machine's addresses and routes.
func (h *Host) Network() Network { return h.network }

// RealPath converts an absolute path of the machine to a path of this process,
// for sockets and for libraries that open files themselves. It resolves symbolic
// links inside the root. Whoever opens the result later does not notice a link
// that was made in between.
func (h *Host) RealPath(path string) string {
	if h.Live() {
		return filepath.Clean("/" + path)
	}
	target, err := securejoin.SecureJoin(h.root, path)
	if err != nil {
		// A path that cannot be resolved must not lead out of the root.
		return filepath.Join(h.root, "unresolved")
	}
	return target
}

// Package host is the only access to the machine: files under a root
// directory, commands with timeouts, kernel settings, network, systemd, and
// sockets. No other package touches the machine, so all others can be tested
// against a temporary root and replaced commands.
package host

import (
	"path/filepath"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Host is a machine, or a root directory with a machine's files.
type Host struct {
	root      string
	exec      Executor
	systemd   Systemd
	network   Network
	record    func(path, sha256 string)
	step      func(op, target string)
	recorded  func(FileOp) // nil: not recorded
	freeSpace func(path string) (uint64, error)
}

// Option changes how a Host accesses its machine.
type Option func(*Host)

// WithExecutor runs commands with e.
func WithExecutor(e Executor) Option { return func(h *Host) { h.exec = e } }

// WithSystemd controls units with s.
func WithSystemd(s Systemd) Option { return func(h *Host) { h.systemd = s } }

// WithNetwork reads addresses and routes from n.
func WithNetwork(n Network) Option { return func(h *Host) { h.network = n } }

// WithManifest calls record with the path (without the root) and the sha256 of
// every file that is written, so that a reset can remove exactly these files.
// An empty digest means that the path was removed.
func WithManifest(record func(path, sha256 string)) Option {
	return func(h *Host) { h.record = record }
}

// WithStep calls step before every change of the machine: op is write, sync,
// rename, remove, mkdir, chmod, link, command, sysctl, module or unit. The crash
// matrix kills the process at these points.
func WithStep(step func(op, target string)) Option {
	return func(h *Host) { h.step = step }
}

// WithFreeSpace gets the free space from free, which receives a path without
// the root and returns bytes.
func WithFreeSpace(free func(path string) (uint64, error)) Option {
	return func(h *Host) { h.freeSpace = free }
}

// New returns the machine whose files are under root. "" and "/" mean the
// machine that this process runs on.
func New(root string, options ...Option) *Host {
	h := &Host{
		root:   filepath.Clean("/" + root),
		record: func(string, string) {},
		step:   func(string, string) {},
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

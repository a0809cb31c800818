// Package host is the one door to the machine: files under a root, commands
// with deadlines, kernel settings, network, systemd and Docker. Nothing else in
// firstboot touches the machine, so everything above can be tested against a
// temporary root and a recorded list of commands.
package host

import (
	"path/filepath"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Host is one machine, or the root folder of one.
type Host struct {
	root    string
	exec    Executor
	systemd Systemd
	network Network
	wrote   func(path, sha256 string)
	step    func(op, target string)
	free    func(path string) (uint64, error)
}

// Option changes how a Host reaches its machine.
type Option func(*Host)

// WithExecutor replaces how commands are run.
func WithExecutor(e Executor) Option { return func(h *Host) { h.exec = e } }

// WithSystemd replaces how units are driven.
func WithSystemd(s Systemd) Option { return func(h *Host) { h.systemd = s } }

// WithNetwork replaces how addresses and routes are read.
func WithNetwork(n Network) Option { return func(h *Host) { h.network = n } }

// WithManifest calls wrote with the path (without the root) and the SHA-256 of
// every file that is written, so that a reset can remove exactly these. An
// empty digest says that the path was removed.
func WithManifest(wrote func(path, sha256 string)) Option {
	return func(h *Host) { h.wrote = wrote }
}

// WithStep calls step before every change of the machine: op is one of
// write, sync, rename, remove, mkdir, link, command, sysctl, module or unit.
// The crash matrix kills the process there.
func WithStep(step func(op, target string)) Option {
	return func(h *Host) { h.step = step }
}

// WithFreeSpace replaces how much room there is: free gets the path that is
// asked for (without the root) and returns bytes.
func WithFreeSpace(free func(path string) (uint64, error)) Option {
	return func(h *Host) { h.free = free }
}

// New opens the machine whose files lie under root; "" and "/" are the machine
// that the process runs on.
func New(root string, options ...Option) *Host {
	h := &Host{
		root:  filepath.Clean("/" + root),
		wrote: func(string, string) {},
		step:  func(string, string) {},
	}
	for _, o := range options {
		o(h)
	}
	if h.exec == nil {
		h.exec = localExecutor{}
	}
	if h.systemd == nil {
		h.systemd = &systemdConn{step: h.step}
	}
	if h.network == nil {
		h.network = kernelNetwork{}
	}
	if h.free == nil {
		h.free = h.freeSpace
	}
	return h
}

// Root is the folder that stands for "/".
func (h *Host) Root() string { return h.root }

// Live tells whether the host is the machine that the process runs on, not a
// folder with an image's files.
func (h *Host) Live() bool { return h.root == "/" }

// Systemd drives the machine's units.
func (h *Host) Systemd() Systemd { return h.systemd }

// Network reads the machine's addresses and routes.
func (h *Host) Network() Network { return h.network }

// path is where an absolute path of the machine lies for this process. Under
// another root the folders' symbolic links are resolved inside that root: an
// image's absolute link must not lead to this machine's files.
func (h *Host) path(p string) string {
	if h.Live() {
		return filepath.Clean("/" + p)
	}
	dir, err := securejoin.SecureJoin(h.root, filepath.Dir(p))
	if err != nil {
		dir = filepath.Join(h.root, filepath.Dir(filepath.Clean("/"+p)))
	}
	return filepath.Join(dir, filepath.Base(p))
}

// followed is like path, with a symbolic link at the end followed too, inside
// the root: an image may link a file absolutely.
func (h *Host) followed(p string) string {
	if h.Live() {
		return h.path(p)
	}
	target, err := securejoin.SecureJoin(h.root, p)
	if err != nil {
		return h.path(p)
	}
	return target
}

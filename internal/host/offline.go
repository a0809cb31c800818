package host

import (
	"context"
	"errors"
	"net/netip"
)

// ErrOffline is what a folder with a machine's files cannot tell.
var ErrOffline = errors.New("only the running machine can tell, and this is a folder with its files")

// Offline makes everything that is not a file answer ErrOffline: what an
// image's root cannot tell must not be asked of the machine that looks at it.
func Offline() Option {
	return func(h *Host) { h.exec, h.systemd, h.network = offline{}, offline{}, offline{} }
}

type offline struct{}

func (offline) Run(context.Context, Command) (Output, error) { return Output{}, ErrOffline }

func (offline) Unit(context.Context, string) (UnitState, error) { return UnitState{}, ErrOffline }
func (offline) Start(context.Context, string) error             { return ErrOffline }
func (offline) Stop(context.Context, string) error              { return ErrOffline }
func (offline) Restart(context.Context, string) error           { return ErrOffline }
func (offline) Reload(context.Context, string) error            { return ErrOffline }
func (offline) Enable(context.Context, ...string) error         { return ErrOffline }
func (offline) Disable(context.Context, ...string) error        { return ErrOffline }
func (offline) DaemonReload(context.Context) error              { return ErrOffline }
func (offline) Property(context.Context, string, string, string) (any, error) {
	return nil, ErrOffline
}

func (offline) Addresses() ([]Address, error)                  { return nil, ErrOffline }
func (offline) Routes() ([]Route, error)                       { return nil, ErrOffline }
func (offline) SourceAddress(netip.Addr) (netip.Addr, error)   { return netip.Addr{}, ErrOffline }
func (offline) Listening(context.Context, netip.AddrPort) bool { return false }
func (offline) Resolve(context.Context, string) ([]netip.Addr, error) {
	return nil, ErrOffline
}
func (offline) Ping(context.Context, netip.Addr) error { return ErrOffline }

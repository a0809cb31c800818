package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// ErrOffline is the error of everything but file access if the host is a root
// directory.
var ErrOffline = errors.New("needs the running machine, not a root directory")

// Offline makes everything but file access fail with ErrOffline. Otherwise
// queries about an image would be answered by the machine that examines it.
func Offline() Option {
	return func(h *Host) { h.exec, h.systemd, h.network = offline{}, offline{}, offline{} }
}

// IsOffline reports whether only the machine's files can be examined.
func (h *Host) IsOffline() bool {
	_, is := h.exec.(offline)
	return is
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

func (offline) DialLocal(context.Context, uint16) (net.Conn, error) { return nil, ErrOffline }
func (offline) RemoveVeth(string) error                             { return ErrOffline }
func (offline) Addresses() ([]Address, error)                       { return nil, ErrOffline }
func (offline) Routes() ([]Route, error)                            { return nil, ErrOffline }
func (offline) RouteTo(netip.Addr) (Route, error)                   { return Route{}, ErrOffline }
func (offline) SourceAddress(netip.Addr) (netip.Addr, error)        { return netip.Addr{}, ErrOffline }
func (offline) Listening(context.Context, netip.AddrPort) bool      { return false }
func (offline) Resolve(context.Context, string) ([]netip.Addr, error) {
	return nil, ErrOffline
}
func (offline) Ping(context.Context, netip.Addr) error { return ErrOffline }

// Package wire is the network of one lab: a network namespace of its own with
// a bridge, and on it whatever the lab plugs in. Nothing leads out of the
// namespace, so a lab can use any addresses and several labs the same ones.
//
// It knows nothing of virtual machines but the taps they are plugged into.
package labnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

// bridgeName is the bridge, inside the namespace.
const bridgeName = "lab0"

// namedDir is where ip-netns(8) and this package keep the names of namespaces.
const namedDir = "/run/netns"

// Wire is a lab's network.
type Network struct {
	Namespace string       // as `ip netns` lists it
	Prefix    netip.Prefix // the bridge has its first address

	group *procs.Group
	ns    netns.NsHandle
}

// New makes the namespace and its bridge, and moves the group's thread into
// it: what the group starts from now on lives there. The caller closes the
// wire, and Remove takes away what a killed run left.
func New(group *procs.Group, namespace string, prefix netip.Prefix) (*Network, error) {
	n := &Network{Namespace: namespace, Prefix: prefix.Masked(), group: group, ns: netns.None()}
	err := group.Do(func() error {
		ns, err := netns.NewNamed(namespace)
		if err != nil {
			return fmt.Errorf("cannot make the network namespace %s: %w (the lab needs root)", namespace, err)
		}
		n.ns = ns
		return n.build()
	})
	if err != nil && n.ns.IsOpen() {
		return nil, errors.Join(err, n.Close())
	}
	if err != nil { // the name may be another lab's: it stays
		return nil, err
	}
	return n, nil
}

// build makes what is inside; it runs on a thread inside.
func (n *Network) build() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find the loopback: %w", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("cannot make a bridge: %w (is the kernel's bridge module there?)", err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: n.Gateway().AsSlice(), Mask: net.CIDRMask(n.Prefix.Bits(), n.Prefix.Addr().BitLen())}}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("cannot give the bridge %s: %w", n.Gateway(), err)
	}
	return errors.Join(netlink.LinkSetUp(loopback), netlink.LinkSetUp(bridge))
}

// Gateway is the bridge's address: every machine's default route, and where
// the lab's own services listen.
func (n *Network) Gateway() netip.Addr { return n.Address(1) }

// Address is the n-th address of the wire's network.
func (n *Network) Address(i int) netip.Addr {
	a := n.Prefix.Addr()
	for range i {
		a = a.Next()
	}
	return a
}

// Tap makes a tap and plugs it into the bridge.
func (n *Network) Tap(name string) error {
	return n.group.Do(func() error {
		bridge, err := netlink.LinkByName(bridgeName)
		if err != nil {
			return fmt.Errorf("cannot find the bridge: %w", err)
		}
		tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
		if err := netlink.LinkAdd(tap); err != nil {
			return fmt.Errorf("cannot make the tap %s: %w (is the kernel's tun module there?)", name, err)
		}
		if err := netlink.LinkSetMaster(tap, bridge); err != nil {
			return fmt.Errorf("cannot plug %s into the bridge: %w", name, err)
		}
		return netlink.LinkSetUp(tap)
	})
}

// Plug connects a tap again, or (false) pulls its cable.
func (n *Network) Plug(tap string, in bool) error {
	return n.group.Do(func() error {
		link, err := netlink.LinkByName(tap)
		if err != nil {
			return fmt.Errorf("cannot find the tap %s: %w", tap, err)
		}
		if in {
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
}

// Dial connects to an address (host and port as numbers) of the wire.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.inside(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on an address of the wire.
func (n *Network) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := n.inside(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// inside runs fn on a thread of its own in the namespace: a socket belongs to
// the namespace in which it was made, for good. The thread ends with it, as it
// stays locked.
func (n *Network) inside(fn func() error) error {
	answer := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(n.ns); err != nil {
			answer <- fmt.Errorf("cannot enter the network namespace %s: %w", n.Namespace, err)
			return
		}
		answer <- fn()
	}()
	return <-answer
}

// Close removes the namespace. What still runs in it keeps it alive, unnamed,
// until it ends.
func (n *Network) Close() error {
	if n.ns.IsOpen() {
		_ = n.ns.Close()
	}
	return Remove(n.Namespace)
}

// Leave keeps the namespace for others.
func (n *Network) Leave() error { return n.ns.Close() }

// Remove removes a namespace by its name, if it is there.
func Remove(namespace string) error {
	path := filepath.Join(namedDir, namespace)
	// EINVAL: a run was killed between making the file and mounting on it.
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the network namespace %s: %w", namespace, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the network namespace %s: %w", namespace, err)
	}
	return nil
}

// Package labnet is the network of a lab: a network namespace with a bridge, to
// which the lab's machines and services are connected. The namespace has no
// connection to other networks, so a lab can use any addresses, and several labs
// can use the same ones.
//
// The package knows nothing about virtual machines except their tap devices.
package labnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

// bridgeName is the name of the bridge inside the namespace.
const bridgeName = "lab0"

// Network is the network of a lab.
type Network struct {
	Namespace string       // name, as listed by `ip netns`
	Prefix    netip.Prefix // the bridge has the first address

	group *procs.Group
	ns    netns.NsHandle
}

// New creates the namespace and its bridge, and moves the group's thread into the
// namespace: all processes that the group starts later run there. A namespace of
// the same name is replaced if no process uses it, and is an error otherwise. The
// caller must call Close.
func New(group *procs.Group, namespace string, prefix netip.Prefix) (*Network, error) {
	n := &Network{Namespace: namespace, Prefix: prefix.Masked(), group: group, ns: netns.None()}
	err := group.Do(func() error {
		ns, err := newNamespace(namespace)
		if err != nil {
			return fmt.Errorf("cannot create the network namespace %s: %w (the lab needs root)", namespace, err)
		}
		n.ns = ns
		return n.build()
	})
	if err != nil && n.ns.IsOpen() {
		return nil, errors.Join(err, n.Close())
	}
	if err != nil { // the namespace may be another lab's: do not remove it
		return nil, err
	}
	return n, nil
}

// build creates the bridge. It must run on a thread in the namespace.
func (n *Network) build() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find the loopback interface: %w", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("cannot create the bridge: %w (the kernel needs the module bridge)", err)
	}
	address := &netlink.Addr{IPNet: n.prefixed(n.Gateway())}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("cannot add the address %s to the bridge: %w", n.Gateway(), err)
	}
	return errors.Join(netlink.LinkSetUp(loopback), netlink.LinkSetUp(bridge))
}

// Gateway returns the bridge's address. It is the default gateway of all machines,
// and the lab's services listen on it.
func (n *Network) Gateway() netip.Addr { return n.Address(1) }

// Address returns address i of the network. Address 0 is the network's own.
func (n *Network) Address(i int) netip.Addr {
	a := n.Prefix.Addr()
	for range i {
		a = a.Next()
	}
	return a
}

// Tap creates a tap device and connects it to the bridge.
func (n *Network) Tap(name string) error {
	return n.group.Do(func() error {
		bridge, err := netlink.LinkByName(bridgeName)
		if err != nil {
			return fmt.Errorf("cannot find the bridge: %w", err)
		}
		tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
		if err := netlink.LinkAdd(tap); err != nil {
			return fmt.Errorf("cannot create the tap device %s: %w (the kernel needs the module tun)", name, err)
		}
		if err := netlink.LinkSetMaster(tap, bridge); err != nil {
			return fmt.Errorf("cannot connect %s to the bridge: %w", name, err)
		}
		return netlink.LinkSetUp(tap)
	})
}

// Veth connects the network namespace of a process to the bridge: it creates the
// interface eth0 there, with this address and the bridge as the default route. name
// is the name of the other end. Both ends disappear with the namespace.
func (n *Network) Veth(name string, pid int, address netip.Addr) error {
	err := n.group.Do(func() error {
		bridge, err := netlink.LinkByName(bridgeName)
		if err != nil {
			return fmt.Errorf("cannot find the bridge: %w", err)
		}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: hostInterface, PeerNamespace: netlink.NsPid(pid)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(veth, bridge), netlink.LinkSetUp(veth))
	})
	if err != nil {
		return fmt.Errorf("cannot create the veth %s: %w", name, err)
	}
	return n.configure(pid, address)
}

// hostInterface is the name of a host's interface.
const hostInterface = "eth0"

// configure configures the host's end of a veth.
func (n *Network) configure(pid int, address netip.Addr) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("cannot find the network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	host, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("cannot enter the network namespace of process %d: %w", pid, err)
	}
	defer host.Close()
	for _, name := range []string{"lo", hostInterface} {
		link, err := host.LinkByName(name)
		if err != nil {
			return fmt.Errorf("cannot find the interface %s: %w", name, err)
		}
		if name == hostInterface {
			err = host.AddrAdd(link, &netlink.Addr{IPNet: n.prefixed(address)})
		}
		if err := errors.Join(err, host.LinkSetUp(link)); err != nil {
			return fmt.Errorf("cannot configure the interface %s: %w", name, err)
		}
	}
	if err := host.RouteAdd(&netlink.Route{Gw: n.Gateway().AsSlice()}); err != nil {
		return fmt.Errorf("cannot add the default route: %w", err)
	}
	return nil
}

// prefixed returns an address with the network's mask.
func (n *Network) prefixed(address netip.Addr) *net.IPNet {
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(n.Prefix.Bits(), address.BitLen())}
}

// SetLink sets a tap device up or down, as if its cable were plugged in or pulled.
func (n *Network) SetLink(tap string, up bool) error {
	return n.group.Do(func() error {
		link, err := netlink.LinkByName(tap)
		if err != nil {
			return fmt.Errorf("cannot find the tap device %s: %w", tap, err)
		}
		if up {
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
}

// Dial connects to an address in the network. Host and port must be numeric.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.inNamespace(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on an address of the network.
func (n *Network) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := n.inNamespace(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// inNamespace runs fn on a new thread in the namespace. A socket stays in the
// namespace in which it was created. The thread stays locked, so it ends with the
// goroutine.
func (n *Network) inNamespace(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(n.ns); err != nil {
			result <- fmt.Errorf("cannot enter the network namespace %s: %w", n.Namespace, err)
			return
		}
		result <- fn()
	}()
	return <-result
}

// Close removes the name of the namespace. The namespace itself ends with the last
// process in it.
func (n *Network) Close() error {
	if n.ns.IsOpen() {
		_ = n.ns.Close()
	}
	return Remove(n.Namespace)
}

// Detach releases the namespace without removing it.
func (n *Network) Detach() error { return n.ns.Close() }

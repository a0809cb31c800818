package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// hostSide and containerSide are the names of a veth pair. A name of a network
// interface has 15 characters at most, so 11 of the endpoint's ID are kept.
func hostSide(endpointID string) string      { return "cali" + short(endpointID) }
func containerSide(endpointID string) string { return "temp" + short(endpointID) }

func short(endpointID string) string { return endpointID[:min(11, len(endpointID))] }

// createVeth makes the pair and returns the MAC of the container's side. Both
// sides are set up, as with the real one: where IPv6 is on, the kernel gives
// them link-local addresses at once.
func createVeth(endpointID string, mtu int) (mac string, err error) {
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: hostSide(endpointID), MTU: mtu},
		PeerName:  containerSide(endpointID),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return "", fmt.Errorf("veth %s: %w", veth.Name, err)
	}
	peer, err := netlink.LinkByName(veth.PeerName)
	if err != nil {
		return "", fmt.Errorf("veth %s: %w", veth.PeerName, err)
	}
	if err := errors.Join(netlink.LinkSetUp(peer), netlink.LinkSetUp(veth)); err != nil {
		return "", fmt.Errorf("veth %s: %w", veth.Name, err)
	}
	return peer.Attrs().HardwareAddr.String(), nil
}

func removeVeth(endpointID string) error {
	link, err := netlink.LinkByName(hostSide(endpointID))
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return nil // it went with the container's namespace
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// linkLocal is the IPv6 address that the kernel gave the host's side, if any.
func linkLocal(endpointID string) string {
	link, err := netlink.LinkByName(hostSide(endpointID))
	if err != nil {
		return ""
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return ""
	}
	for _, a := range addresses {
		if a.IP.IsLinkLocalUnicast() {
			return a.IP.String()
		}
	}
	return ""
}

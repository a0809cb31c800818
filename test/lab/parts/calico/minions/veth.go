package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// hostEnd and containerEnd return the interface names of a veth pair. Interface
// names are limited to 15 characters, so only 11 of the endpoint ID are used.
func hostEnd(endpointID string) string      { return "cali" + short(endpointID) }
func containerEnd(endpointID string) string { return "temp" + short(endpointID) }

func short(endpointID string) string { return endpointID[:min(11, len(endpointID))] }

// createVeth creates the pair and returns the MAC address of the container's
// end. Like the real plugin, it sets both ends up: if IPv6 is enabled, the
// kernel assigns link-local addresses at once.
func createVeth(endpointID string, mtu int) (mac string, err error) {
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: hostEnd(endpointID), MTU: mtu},
		PeerName:  containerEnd(endpointID),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return "", fmt.Errorf("cannot create the veth %s: %w", veth.Name, err)
	}
	peer, err := netlink.LinkByName(veth.PeerName)
	if err != nil {
		return "", fmt.Errorf("cannot create the veth %s: %w", veth.PeerName, err)
	}
	if err := errors.Join(netlink.LinkSetUp(peer), netlink.LinkSetUp(veth)); err != nil {
		return "", fmt.Errorf("cannot create the veth %s: %w", veth.Name, err)
	}
	return peer.Attrs().HardwareAddr.String(), nil
}

func removeVeth(endpointID string) error {
	link, err := netlink.LinkByName(hostEnd(endpointID))
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil // the kernel removed it with the container's namespace
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// linkLocal returns the link-local IPv6 address of the host's end, or "".
func linkLocal(endpointID string) string {
	link, err := netlink.LinkByName(hostEnd(endpointID))
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

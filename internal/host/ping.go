package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// pingTimeout bounds the wait for a reply to one echo request.
const pingTimeout = time.Second

// icmpProtocol is ICMP's number in the IPv4 header (RFC 792).
const icmpProtocol = 1

// Ping sends one ICMP echo request to an IPv4 address and waits up to a second
// for its reply. It needs root.
func (kernelNetwork) Ping(ctx context.Context, to netip.Addr) error {
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return fmt.Errorf("cannot ping: %w", err)
	}
	defer conn.Close()
	deadline := time.Now().Add(pingTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	request := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte("firstboot")}}
	data, err := request.Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := conn.WriteTo(data, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return fmt.Errorf("cannot send an echo request to %s: %w", to, err)
	}
	return awaitReply(conn, to)
}

// awaitReply waits for the echo reply from to, until the deadline of conn.
func awaitReply(conn *icmp.PacketConn, to netip.Addr) error {
	buffer := make([]byte, 1500) // a reply is as small as its request
	for {
		n, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no reply within %v", pingTimeout)
		}
		if err != nil {
			return err
		}
		reply, err := icmp.ParseMessage(icmpProtocol, buffer[:n])
		if err != nil || reply.Type != ipv4.ICMPTypeEchoReply || from.String() != to.String() {
			continue
		}
		if echo, ok := reply.Body.(*icmp.Echo); ok && echo.ID == os.Getpid()&0xffff {
			return nil
		}
	}
}

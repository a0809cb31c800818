package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// queryLimit limits the query of a connection's owner. The kernel answers within
// microseconds.
const queryLimit = time.Second

// Sizes and offsets of linux/netlink.h and linux/inet_diag.h.
const (
	headerSize  = 16 // struct nlmsghdr
	requestSize = 56 // struct inet_diag_req_v2
	replySize   = 72 // struct inet_diag_msg
	idOffset    = 8  // of inet_diag_sockid in a request
	uidOffset   = 64 // in a reply
	inodeOffset = 68
)

// connectedStates are the kernel's states of a connection that a process can have
// open: established, and after either side has closed its direction.
var connectedStates = []byte{1, 4, 5, 8} // TCP_ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT

// ownerOf returns the user who owns the client's end of a connection within this
// host. It queries the kernel's socket diagnosis (sock_diag(7)) for the socket
// with exactly these addresses. An error means that the owner is unknown.
func ownerOf(client, server netip.AddrPort) (uid uint32, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("cannot open the kernel's socket diagnosis: %w", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(queryLimit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return 0, fmt.Errorf("cannot limit the query of the kernel's socket diagnosis: %w", err)
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(fd, diagRequest(client, server), 0, kernel); err != nil {
		return 0, fmt.Errorf("cannot query the kernel's socket diagnosis: %w", err)
	}
	reply := make([]byte, 8192)
	for {
		n, from, err := unix.Recvfrom(fd, reply, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("cannot read the kernel's socket diagnosis: %w", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // not from the kernel
		}
		return parseDiagReply(reply[:n], client, server)
	}
}

// diagRequest returns the query for the IPv4 socket that is bound to one address
// and connected to the other.
func diagRequest(bound, connected netip.AddrPort) []byte {
	b := make([]byte, headerSize+requestSize)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b))) //nolint:gosec // a constant
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	request := b[headerSize:]
	request[0], request[1] = unix.AF_INET, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[4:], ^uint32(0)) // any state; the reply's is checked
	id := request[idOffset:]
	binary.BigEndian.PutUint16(id[0:], bound.Port())
	binary.BigEndian.PutUint16(id[2:], connected.Port())
	copy(id[4:], bound.Addr().AsSlice())
	copy(id[20:], connected.Addr().AsSlice())
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// errNoSocket means that the connection ended before its owner was queried.
var errNoSocket = errors.New("the connection has no socket any more")

// parseDiagReply returns the owner in the kernel's reply. It accepts only a
// connection with exactly these addresses that a process has open. For one that
// its process has closed the kernel reports the user 0, and no inode. It reads the
// inode last, so with an inode the user is right.
func parseDiagReply(b []byte, bound, connected netip.AddrPort) (uid uint32, err error) {
	if len(b) < headerSize {
		return 0, errors.New("the kernel's reply is too short")
	}
	size, kind := binary.NativeEndian.Uint32(b[0:]), binary.NativeEndian.Uint16(b[4:])
	if size < headerSize || uint64(size) > uint64(len(b)) {
		return 0, errors.New("the kernel's reply has a wrong length")
	}
	body := b[headerSize:size]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		return 0, diagError(int32(binary.NativeEndian.Uint32(body))) //nolint:gosec // a signed number in the kernel
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < replySize:
		return 0, errors.New("the kernel's reply is not about a socket")
	}
	from, ok := diagAddr(body[0], body[8:24], body[4:6])
	to, ok2 := diagAddr(body[0], body[24:40], body[6:8])
	if !ok || !ok2 || from != bound || to != connected {
		return 0, errNoSocket // the kernel found a listening socket instead
	}
	if !slices.Contains(connectedStates, body[1]) || binary.NativeEndian.Uint32(body[inodeOffset:]) == 0 {
		return 0, errNoSocket
	}
	return binary.NativeEndian.Uint32(body[uidOffset:]), nil
}

// diagError returns the error of a negative error number.
func diagError(code int32) error {
	switch errno := unix.Errno(-int64(code)); errno { //nolint:gosec // a small number
	case unix.ENOENT:
		return errNoSocket
	case unix.EOPNOTSUPP:
		return fmt.Errorf("the kernel has no socket diagnosis (module tcp_diag): %w", errno)
	default:
		return fmt.Errorf("the kernel's socket diagnosis: %w", errno)
	}
}

// diagAddr returns an address of a reply. A client may use an IPv6 socket for
// IPv4; its addresses are then IPv4-mapped.
func diagAddr(family byte, address, port []byte) (netip.AddrPort, bool) {
	var ip netip.Addr
	switch family {
	case unix.AF_INET:
		ip, _ = netip.AddrFromSlice(address[:4])
	case unix.AF_INET6:
		ip, _ = netip.AddrFromSlice(address[:16])
		ip = ip.Unmap()
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port)), ip.Is4()
}

package tunnel

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// connected returns both ends of a connection over the loopback interface.
func connected(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestOwnerOfAConnection(t *testing.T) {
	client, server := connected(t)
	from, to := addrPort(server.RemoteAddr()), addrPort(server.LocalAddr())
	if uid, err := ownerOf(from, to); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("the owner is %d, %v; want %d", uid, err, os.Geteuid())
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if uid, err := ownerOf(from, to); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("the owner of a half-closed connection is %d, %v; want %d", uid, err, os.Geteuid())
	}
	client.Close()
	// The kernel reports user 0 for a socket that its process closed.
	if uid, err := ownerOf(from, to); !errors.Is(err, errNoSocket) {
		t.Errorf("the owner of a closed connection is %d, %v", uid, err)
	}
	if uid, err := ownerOf(netip.MustParseAddrPort("127.0.0.1:1"), to); !errors.Is(err, errNoSocket) {
		t.Errorf("the owner of no connection is %d, %v", uid, err)
	}
}

// TestListeningSocketIsNotAConnection: the kernel falls back to a socket that
// listens on the address.
func TestListeningSocketIsNotAConnection(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if uid, err := ownerOf(addrPort(l.Addr()), netip.MustParseAddrPort(Address)); !errors.Is(err, errNoSocket) {
		t.Errorf("the owner is %d, %v", uid, err)
	}
}

// TestOwnerOfAConnectionOfAnIPv6Socket to an IPv4 address, as Java uses.
func TestOwnerOfAConnectionOfAnIPv6Socket(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no IPv6 sockets: %v", err)
	}
	defer unix.Close(fd)
	mapped := &unix.SockaddrInet6{Port: l.Addr().(*net.TCPAddr).Port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	if err := unix.Connect(fd, mapped); err != nil {
		t.Skipf("no IPv4-mapped addresses: %v", err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if uid, err := ownerOf(addrPort(server.RemoteAddr()), addrPort(server.LocalAddr())); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("the owner is %d, %v; want %d", uid, err, os.Geteuid())
	}
}

// connectVariable makes this test binary a client that connects to an address,
// and then reads until the end.
const connectVariable = "FIRSTBOOT_TEST_CONNECT"

func TestMain(m *testing.M) {
	if address := os.Getenv(keptVariable); address != "" {
		kept := "none"
		if l := keptListener(address); l != nil {
			kept = l.Addr().String()
		}
		fmt.Print(kept)
		os.Exit(0)
	}
	address := os.Getenv(connectVariable)
	if address == "" {
		os.Exit(m.Run())
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		os.Exit(1)
	}
	_, _ = c.Write([]byte("hello"))
	_, _ = c.Read(make([]byte, 1))
}

// connectAs connects to an address as another user, in a process that ends with
// the connection.
func connectAs(t *testing.T, uid uint32, address string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	// The test binary is in a directory that others cannot enter.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	child := exec.CommandContext(t.Context(), "/proc/self/fd/3")
	child.Env = append(os.Environ(), connectVariable+"="+address)
	child.ExtraFiles = []*os.File{self}
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Wait() })
	return child
}

func TestOwnerIsTheOtherUser(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connectAs(t, 4711, l.Addr().String())
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if uid, err := ownerOf(addrPort(server.RemoteAddr()), addrPort(server.LocalAddr())); err != nil || uid != 4711 {
		t.Errorf("the owner is %d, %v; want 4711", uid, err)
	}
}

var (
	bound = netip.MustParseAddrPort("127.0.0.1:43976")
	other = netip.MustParseAddrPort("127.0.0.1:32683")
)

// reply returns a real reply of Linux 6.18, about a connection from bound to
// other that belongs to the user 0. change edits it.
func reply(change func(b []byte)) []byte {
	text := "7c0000001400000001000000" + "8c580000" + "02010000" + "abc87fab" +
		"7f000001000000000000000000000000" + "7f000001000000000000000000000000" + "00000000" + "0100000000000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "3de86100" +
		"050008000000000008000f00000000000c00150001000000000000000600160052000000"
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	change(b)
	return b
}

func TestOnlyTheReplyAboutAnOpenConnectionNamesAnOwner(t *testing.T) {
	same := func([]byte) {}
	if uid, err := parseDiagReply(reply(same), bound, other); err != nil || uid != 0 {
		t.Fatalf("a real reply: %d, %v", uid, err)
	}
	for what, b := range map[string][]byte{
		"no reply":          nil,
		"a cut header":      reply(same)[:12],
		"a cut body":        reply(same)[:60],
		"a length too long": reply(func(b []byte) { b[0] = 0xff }),
		"a length of 0":     reply(func(b []byte) { b[0] = 0 }),
		"a short body":      reply(func(b []byte) { b[0] = headerSize + 20 }),
		"another message":   reply(func(b []byte) { b[4] = 3 }),
		"another port":      reply(func(b []byte) { b[headerSize+5]++ }),
		"another address":   reply(func(b []byte) { b[headerSize+11]++ }),
		"another peer":      reply(func(b []byte) { b[headerSize+27]++ }),
		"a listener":        reply(func(b []byte) { b[headerSize+1] = 10 }),
		"a closed socket":   reply(func(b []byte) { b[headerSize+1] = 6 }),
		"an orphan":         reply(func(b []byte) { copy(b[headerSize+inodeOffset:], []byte{0, 0, 0, 0}) }),
		"another family":    reply(func(b []byte) { b[headerSize] = unix.AF_UNIX }),
		"no success":        {20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff},
	} {
		if uid, err := parseDiagReply(b, bound, other); err == nil {
			t.Errorf("%s: the owner is %d", what, uid)
		}
	}
	unsupported := make([]byte, 36)
	binary.NativeEndian.PutUint32(unsupported, 36)
	binary.NativeEndian.PutUint16(unsupported[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(unsupported[16:], uint32(1<<32-uint64(unix.EOPNOTSUPP)))
	if _, err := parseDiagReply(unsupported, bound, other); err == nil || !strings.Contains(err.Error(), "module tcp_diag") {
		t.Errorf("without the module: %v", err)
	}
}

// FuzzDiagReply: no reply makes the parser panic, and only one with both
// addresses names an owner.
func FuzzDiagReply(f *testing.F) {
	f.Add(reply(func([]byte) {}))
	f.Add(reply(func(b []byte) { b[headerSize] = unix.AF_INET6 }))
	f.Add([]byte{20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := parseDiagReply(b, bound, other)
		if err == nil && (len(b) < headerSize+replySize || binary.BigEndian.Uint16(b[headerSize+4:]) != bound.Port() || binary.BigEndian.Uint16(b[headerSize+6:]) != other.Port()) {
			t.Errorf("an owner from %x", b)
		}
	})
}

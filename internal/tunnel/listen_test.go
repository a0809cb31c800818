package tunnel

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keptVariable makes this test binary print the address of the socket that
// systemd kept for an address.
const keptVariable = "FIRSTBOOT_TEST_KEPT"

// TestSystemdKeepsTheListeningSocket: no other process can bind the port while
// the service restarts.
func TestSystemdKeepsTheListeningSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := keep(l); err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // the service ends
	kept := received(t, systemd)
	if again, err := net.Listen("tcp4", address); err == nil {
		again.Close()
		t.Fatal("the port is free")
	}
	// The restarted service gets the socket, and no other one.
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	stray, err := other.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	for want, files := range map[string][]*os.File{address: {stray, kept}, "none": {stray}} {
		child := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
		child.Env = append(os.Environ(), keptVariable+"="+address, "LISTEN_FDS="+string(rune('0'+len(files))))
		child.ExtraFiles = files
		out, err := child.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("with %d sockets the service uses %q, %v; want %q", len(files), out, err, want)
		}
	}
}

// received returns the socket that systemd was given.
func received(t *testing.T, systemd *net.UnixConn) *os.File {
	t.Helper()
	if err := systemd.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	text, rights := make([]byte, 256), make([]byte, 256)
	n, m, _, _, err := systemd.ReadMsgUnix(text, rights)
	if err != nil {
		t.Fatal(err)
	}
	if string(text[:n]) != "FDSTORE=1\nFDNAME=etcd" {
		t.Errorf("systemd got %q", text[:n])
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%v, %v", messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%v, %v", fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "kept")
	t.Cleanup(func() { f.Close() })
	return f
}

func TestWithoutSystemdNothingIsKept(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := keep(nil); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "missing"))
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := keep(l); err == nil {
		t.Error("a missing socket is no error")
	}
}

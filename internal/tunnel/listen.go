package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// bindPause is the pause between two attempts to bind the port.
const bindPause = time.Second

// sendLimit limits a message to systemd, which may not be reading.
const sendLimit = 5 * time.Second

// Listen listens on Address. If another process has the port, it waits until the
// port is free: the units that are ordered after the tunnel must not talk to that
// process as if it were etcd.
//
// It gives the socket to systemd to keep, so that the port stays occupied while
// the service restarts. Any local user could bind it in between and pretend to be
// etcd. The restarted service gets the same socket.
func Listen(ctx context.Context, log func(Level, string)) (net.Listener, error) {
	if l := keptListener(Address); l != nil {
		return l, nil
	}
	limited := newLimitedLog(log)
	for {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", Address)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				l.Close()
			}
			return nil, context.Cause(ctx)
		case err == nil:
			if err := keep(l); err != nil {
				log(Warning, err.Error())
			}
			return l, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("cannot listen on %s: %w", Address, err)
		}
		limited.print(Warning, "bind", fmt.Sprintf("waiting for the port %s, which another process uses (ss -tlnp)", Address))
		pause(ctx, bindPause)
	}
}

// keptListener returns the socket that systemd kept, or nil. It closes any other
// socket that systemd passed.
func keptListener(address string) net.Listener {
	var kept net.Listener
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			continue
		}
		if kept == nil && l.Addr().Network() == "tcp" && l.Addr().String() == address {
			kept = l
			continue
		}
		l.Close()
	}
	return kept
}

// keep gives the socket to systemd (FDSTORE=1 in sd_notify(3)). Without systemd
// it does nothing.
func keep(l net.Listener) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	tcp, ok := l.(*net.TCPListener)
	if socket == "" || !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err == nil {
		err = sendTo(socket, raw)
	}
	if err != nil {
		return fmt.Errorf("cannot give the listening socket to systemd: %w", err)
	}
	return nil
}

// sendTo sends a copy of the listening socket to systemd.
func sendTo(socket string, listener syscall.RawConn) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(sendLimit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return err
	}
	var sent error
	err = listener.Control(func(kept uintptr) {
		sent = unix.Sendmsg(fd, []byte("FDSTORE=1\nFDNAME=etcd"), unix.UnixRights(int(kept)), &unix.SockaddrUnix{Name: socket}, 0)
	})
	return errors.Join(err, sent)
}

// Notify sends a state to systemd (sd_notify(3)). Without systemd it does
// nothing.
func Notify(state string) {
	_, _ = daemon.SdNotify(false, state) // a lost state does not affect the tunnel
}

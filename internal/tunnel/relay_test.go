package tunnel

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/certtest"
)

// TestReasonIsReadAfterAFailedWrite: a server that refuses the certificate has
// reset the connection before the first byte is passed on.
func TestReasonIsReadAfterAFailedWrite(t *testing.T) {
	s := newServers(t)
	other := certtest.NewCA(t, t.TempDir(), "other")
	s.client = other.Issue("client", certtest.Certificate{CN: "host1"})
	endpoint := s.start(echo, nil)
	for range 20 {
		config, err := s.files().Config()
		if err != nil {
			t.Fatal(err)
		}
		config.NextProtos = []string{"h2"}
		etcd, err := tls.Dial("tcp4", endpoint[len("https://"):], config)
		if err != nil {
			t.Fatal(err)
		}
		for limit := time.Now().Add(limit); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET); {
			if _, err = etcd.Write([]byte("x")); time.Now().After(limit) {
				t.Fatalf("no write fails: %v", err)
			}
		}
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		program, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		if _, err := program.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		client, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if err := relay(client, etcd); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
			t.Fatalf("relay = %v, want etcd's alert", err)
		}
	}
}

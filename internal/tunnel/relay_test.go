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

// dial connects to a server with the client's certificate.
func (s *servers) dial(endpoint string) *tls.Conn {
	s.t.Helper()
	config, err := s.files().Config()
	if err != nil {
		s.t.Fatal(err)
	}
	config.NextProtos = []string{"h2"}
	c, err := tls.Dial("tcp4", endpoint[len("https://"):], config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// TestReasonIsReadAfterAFailedWrite: a server that refuses the certificate has
// reset the connection before the first byte is passed on.
func TestReasonIsReadAfterAFailedWrite(t *testing.T) {
	s := newServers(t)
	other := certtest.NewCA(t, t.TempDir(), "other")
	s.client = other.Issue("client", certtest.Certificate{CN: "host1"})
	endpoint := s.start(echo, nil)
	for range 20 {
		etcd, err := s.dial(endpoint), error(nil)
		for limit := time.Now().Add(limit); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET); {
			if _, err = etcd.Write([]byte("x")); time.Now().After(limit) {
				t.Fatalf("no write fails: %v", err)
			}
		}
		program, client := connected(t)
		if _, err := program.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := relay(client, etcd); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
			t.Fatalf("relay = %v, want etcd's alert", err)
		}
	}
}

// TestClientThatDoesNotReadIsClosed when etcd has reset the connection: it cannot keep
// the tunnel waiting for what it does not read.
func TestClientThatDoesNotReadIsClosed(t *testing.T) {
	s := newServers(t)
	reset := make(chan bool)
	endpoint := s.start(func(c *tls.Conn) {
		// Until no buffer on the way has room.
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		for data := make([]byte, 1<<20); ; {
			if _, err := c.Write(data); err != nil {
				break
			}
		}
		if tcp, ok := c.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.NetConn().Close()
		close(reset)
	}, nil)
	etcd := s.dial(endpoint)
	program, client := connected(t)
	ended := make(chan error, 1)
	go func() { ended <- relay(client, etcd) }()
	<-reset
	if _, err := program.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(limit):
		t.Fatal("the connection is kept")
	}
}

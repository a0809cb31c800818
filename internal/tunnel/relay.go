package tunnel

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// halfClosedLimit is how long one direction stays open after the other ended.
const halfClosedLimit = time.Minute

// relay copies in both directions until both have ended. The end of one direction
// is passed on; an error, or a second direction that stays open, closes both. It
// returns the error that etcd's side reported.
func relay(client *net.TCPConn, server *tls.Conn) error {
	closeBoth := func() {
		client.Close()
		server.NetConn().Close()
	}
	from := &recorder{Reader: server}
	ends := make(chan error, 2)
	go func() { ends <- pass(server, client) }()
	go func() { ends <- pass(client, from) }()
	if <-ends == nil {
		limit := time.AfterFunc(halfClosedLimit, closeBoth)
		defer limit.Stop()
	} else {
		closeBoth()
	}
	<-ends //nolint:errcheck // its error follows from the first one, or from closing both
	return from.err
}

// halfCloser is a connection whose sending direction can be closed alone.
type halfCloser interface {
	io.Writer
	CloseWrite() error
}

// pass copies one direction, and passes on its end.
func pass(to halfCloser, from io.Reader) error {
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.CloseWrite()
}

// recorder keeps the error of a reader. It ignores the end of the data, and
// connections that this process closed.
type recorder struct {
	io.Reader
	err error
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		r.err = err
	}
	return n, err
}

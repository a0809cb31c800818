package tunnel

import (
	"cmp"
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
	etcd := &recorder{Conn: server}
	ends := make(chan error, 2)
	go func() { ends <- pass(etcd, client) }()
	go func() { ends <- pass(client, etcd) }()
	if <-ends == nil {
		limit := time.AfterFunc(halfClosedLimit, closeBoth)
		defer limit.Stop()
	} else {
		closeBoth()
	}
	<-ends //nolint:errcheck // its error follows from the first one, or from closing both
	return cmp.Or(etcd.readError, etcd.writeError)
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

// recorder keeps the first error of each direction of a connection: the kernel
// reports a reset to the reader or to the writer, whichever is first. One goroutine
// reads, another one writes.
type recorder struct {
	*tls.Conn
	readError, writeError error
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	record(&r.readError, err)
	return n, err
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.Conn.Write(p)
	record(&r.writeError, err)
	return n, err
}

func (r *recorder) CloseWrite() error {
	err := r.Conn.CloseWrite()
	record(&r.writeError, err)
	return err
}

// record stores the first error. It ignores the end of the data, and connections that
// this process closed.
func record(first *error, err error) {
	if *first == nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		*first = err
	}
}

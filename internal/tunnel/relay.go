package tunnel

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

const (
	// halfClosedLimit is how long one direction stays open after the other ended.
	halfClosedLimit = time.Minute
	// reasonLimit is how long etcd's reason is awaited after it closed a connection.
	reasonLimit = time.Second
)

// relay copies in both directions until both have ended. The end of one direction
// is passed on; an error, or a second direction that stays open, closes both. It
// returns the error that etcd's side reported.
func relay(client *net.TCPConn, server *tls.Conn) error {
	closeBoth := func() {
		client.Close()
		server.NetConn().Close()
	}
	etcd := &recorder{Conn: server}
	sent, received := make(chan error, 1), make(chan error, 1)
	go func() { sent <- pass(etcd, client) }()
	go func() { received <- pass(client, etcd) }()
	var err error
	other := sent
	select {
	case err = <-received:
	case err = <-sent:
		other = received
	}
	switch {
	case err == nil:
		limit := time.AfterFunc(halfClosedLimit, closeBoth)
		defer limit.Stop()
	case other == received:
		// The failed direction does not carry etcd's reason, a TLS alert. It is read,
		// if it is there.
		limit := time.AfterFunc(reasonLimit, closeBoth)
		defer limit.Stop()
	default:
		closeBoth()
	}
	<-other //nolint:errcheck // its error follows from the first one, or is recorded
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
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return
	}
	*first = cmp.Or(*first, err)
}

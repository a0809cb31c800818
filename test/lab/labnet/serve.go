package labnet

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Serve serves HTTP on a port of the bridge's address until stop is called: a
// mirror of artifacts, which a story's handler may break as it likes.
func (n *Network) Serve(port int, handler http.Handler) (url string, stop func() error, err error) {
	address := fmt.Sprintf("%s:%d", n.Gateway(), port)
	listener, err := n.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("cannot serve files to the machines: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	stop = func() error {
		err := server.Close()
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}
	return "http://" + address, stop, nil
}

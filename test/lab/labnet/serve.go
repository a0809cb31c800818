package labnet

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Serve serves HTTP on the bridge's address until stop is called.
func (n *Network) Serve(port int, handler http.Handler) (url string, stop func() error, err error) {
	address := fmt.Sprintf("%s:%d", n.Gateway(), port)
	listener, err := n.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("cannot serve HTTP to the machines: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop = func() error {
		err := server.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}
	return "http://" + address, stop, nil
}

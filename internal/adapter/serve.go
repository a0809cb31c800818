package adapter

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// readLimit bounds the time in which Docker must send a request.
	readLimit = 10 * time.Second
	// writeLimit bounds the time from the request's header to the end of the answer.
	writeLimit = readLimit + callLimit + 5*time.Second
	// stopLimit bounds the time for the calls in flight when the adapter stops.
	// TimeoutStopSec= of its unit is longer.
	stopLimit = readLimit + writeLimit
	// maxCalls bounds the calls in flight and with them the memory. More calls wait
	// in the socket's queue.
	maxCalls = 64
)

// Serve answers calls on a listener until ctx ends, and removes abandoned endpoints.
// Then it finishes the calls in flight; new ones wait in the socket, which systemd
// keeps, for the next start.
func (a *Adapter) Serve(ctx context.Context, listener net.Listener) error {
	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { a.watchEndpoints(watched) })
	defer watching.Wait()
	defer stop()
	server := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: readLimit,
		ReadTimeout:       readLimit,
		WriteTimeout:      writeLimit,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(lineWriter{a.log}, "", 0),
	}
	// One call per connection. Otherwise Docker could send a call on a connection
	// that closes at this moment, and its retry would have no body.
	server.SetKeepAlivesEnabled(false)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(netutil.LimitListener(listener, maxCalls)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot accept calls: %w", err)
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		return fmt.Errorf("cannot finish the calls in flight: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot accept calls: %w", err)
	}
	return nil
}

// ServeHTTP answers one call of Docker.
func (a *Adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	result, err := a.answer(ctx, r)
	if err != nil {
		err = fmt.Errorf("cannot %s: %w", purpose(r.URL.Path), err)
		a.log(err.Error())
		result = failure(err)
	}
	for name, values := range result.header {
		w.Header()[name] = values
	}
	w.WriteHeader(result.status)
	if _, err := w.Write(result.body); err != nil {
		a.log(fmt.Sprintf("cannot send Docker the answer to %s: %v", text.Line(r.URL.Path), err))
	}
}

// lineWriter passes each message of the HTTP server to a log.
type lineWriter struct{ log func(line string) }

func (w lineWriter) Write(p []byte) (int, error) {
	w.log(text.Line(string(p)))
	return len(p), nil
}

// Ready returns nil if the adapter answers on Socket. If the plugin itself owns
// the socket, its scope is global. A caller that does not want to wait for 30 s
// sets a deadline.
func Ready(ctx context.Context, h *host.Host) error {
	scope, err := dockerd.NewPlugin(h, Socket).Scope(ctx)
	if err != nil {
		return fmt.Errorf("the adapter does not answer on %s: %w", Socket, err)
	}
	if scope != "local" {
		return fmt.Errorf("the scope of %s is %q, not local: the adapter does not own the socket", Socket, scope)
	}
	return nil
}

package adapter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// abandonedInterval is the time between two searches for abandoned endpoints.
	abandonedInterval = 5 * time.Second
	// removeLimit bounds one search with its removals. The next one continues.
	removeLimit = 60 * time.Second
	// linksDir lists the host's interfaces.
	linksDir = "/sys/class/net"
)

// watchEndpoints removes abandoned endpoints until ctx ends: at intervals, and after
// each CreateEndpoint that failed.
func (a *Adapter) watchEndpoints(ctx context.Context) {
	tick := time.NewTicker(abandonedInterval)
	defer tick.Stop()
	var last string
	for {
		failure := ""
		if err := a.removeAbandoned(ctx, time.Now()); err != nil && ctx.Err() == nil {
			failure = text.LineOf(err.Error(), maxErr)
		}
		if failure != last && failure != "" { // it may last as long as etcd is down
			a.log("cannot remove the endpoints that no container uses, will try again: " + failure)
		}
		last = failure
		select {
		case <-tick.C:
		case <-a.wake:
		case <-ctx.Done():
			return
		}
	}
}

// wakeUp makes watchEndpoints search at once.
func (a *Adapter) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default: // it is about to search
	}
}

// removeAbandoned makes the plugin delete the endpoints that no container uses.
func (a *Adapter) removeAbandoned(ctx context.Context, now time.Time) error {
	if a.endpoints.empty() {
		return nil
	}
	links, err := a.links()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, removeLimit)
	defer cancel()
	var failures []error
	for _, id := range a.endpoints.abandoned(links, now) {
		result, err := a.forward(ctx, deletion(id))
		if err != nil {
			return err // the plugin would not answer for the others
		}
		failures = append(failures, a.removed(id, result, now))
	}
	return errors.Join(failures...)
}

// links returns the names of the host's interfaces.
func (a *Adapter) links() (map[string]bool, error) {
	names, err := a.host.ReadDir(linksDir)
	if err == nil && len(names) == 0 {
		err = errors.New(linksDir + " is empty") // a host has a loopback interface
	}
	links := map[string]bool{}
	for _, name := range names {
		links[name] = true
	}
	return links, err
}

// removed handles the plugin's answer to the deletion of an abandoned endpoint.
func (a *Adapter) removed(id string, result answer, now time.Time) error {
	switch {
	case result.ok():
		a.log("removed the endpoint " + id + ", which no container uses")
	case !result.notFound():
		return fmt.Errorf("the plugin cannot delete the endpoint %.12s: %s", id, text.Line(errorText(result.body)))
	case !a.endpoints.settled(id, now):
		return nil // the plugin may still create it
	}
	a.endpoints.forget(id)
	return a.host.Network().RemoveVeth(linkOf(id)) // it may not exist
}

// deletion is the call that deletes an endpoint. The plugin needs only its ID.
func deletion(id string) call {
	return call{
		method: http.MethodPost, url: url.URL{Path: "/NetworkDriver.DeleteEndpoint"},
		header: http.Header{"Content-Type": {contentType}}, body: []byte(`{"EndpointID":"` + id + `"}`),
	}
}

// notFound reports whether an answer to DeleteEndpoint says that the endpoint does
// not exist.
func (a answer) notFound() bool {
	return strings.Contains(errorText(a.body), "resource does not exist")
}

// ended records how the plugin's CreateEndpoint of an endpoint ended.
func (a *Adapter) ended(id string, result answer, err error) {
	var dialed *dialError
	switch {
	case err == nil && result.ok():
		a.endpoints.created(id)
		return
	case errors.As(err, &dialed): // the plugin was not called
		a.endpoints.forget(id)
		return
	case err == nil:
		a.endpoints.failed(id, 0)
	default:
		a.endpoints.failed(id, lateLimit)
	}
	a.wakeUp()
}

// Package adapter is the process between Docker and the network plugin
// eru-minions on a host with a local network. Docker calls the adapter, and the
// adapter calls the unmodified plugin.
//
// The plugin is written for one network that all hosts share through Docker's
// cluster store, which Docker no longer has. With the adapter every host has a
// local network of its own over the cluster's one pool. The adapter therefore
//
//   - answers GetCapabilities with a local scope,
//   - answers CreateNetwork and DeleteNetwork of the pool itself, because the
//     plugin would rewrite the pool,
//   - replaces Docker's network ID with the one in the pool's annotation, by which
//     the plugin finds the pool,
//   - answers Leave itself, because the plugin would call Docker with a version of
//     its API that Docker 29 refuses,
//   - removes the IPv6 gateway from the answer to Join, so that IPv6 may stay on,
//   - deletes endpoints that no container uses, because Docker does not know them.
//
// Other networks of the plugin and other calls pass through unchanged. The
// package knows Docker's protocol for remote network drivers (moby's
// libnetwork/drivers/remote). It knows nothing about stages and never connects
// to etcd.
package adapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// Socket is where Docker expects the plugin "calico". systemd owns it
	// (firstboot-adapter.socket), so it exists before Docker starts and while the
	// adapter restarts.
	Socket = "/run/docker/plugins/calico.sock"
	// PluginName is the value of eru-minions' variable CALICO_CNM. go-plugins-helpers
	// uses an absolute path verbatim as the path of the socket, without ".sock".
	// Docker does not search this directory for plugins.
	PluginName = "/run/firstboot/eru-minions"
	// PluginSocket is the socket of eru-minions' network driver.
	PluginSocket = PluginName
	// Path is the file with the network that the adapter serves (0600). The
	// adapter reads it for every call that needs it.
	Path = state.Dir + "/adapter.json"
	// foreignDir contains an empty file for each Docker network outside the pool.
	foreignDir = "/run/firstboot/adapter"
)

const (
	// callLimit bounds one call of the plugin, which may wait for etcd.
	callLimit = 60 * time.Second
	// dialLimit bounds the wait for a plugin that does not listen, for example
	// while it restarts. It is about as long as Docker waits for its plugins.
	dialLimit = 15 * time.Second
	// maxBody bounds a request and an answer, in bytes. Docker's have about 1 KiB.
	maxBody = 1 << 20
)

// Adapter answers Docker's calls of the network driver "calico".
type Adapter struct {
	host      *host.Host
	client    *http.Client
	log       func(line string)
	endpoints *endpoints
	wake      chan struct{} // of watchEndpoints
}

// New returns the adapter of a machine. It calls log with one line for every
// error, from several goroutines.
func New(h *host.Host, log func(line string)) *Adapter {
	return &Adapter{
		host: h, log: log, client: pluginClient(h.RealPath(PluginSocket), dialLimit, callLimit),
		endpoints: loadEndpoints(h, log), wake: make(chan struct{}, 1),
	}
}

// answer is an HTTP response to Docker.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ok reports whether the plugin did what it was called for. Plugins report an
// error by a status other than 200 or in the field Err.
func (a answer) ok() bool { return a.status == http.StatusOK && errorText(a.body) == "" }

// contentType is that of go-plugins-helpers.
const contentType = "application/vnd.docker.plugins.v1.1+json"

// done is an answer of the adapter itself.
func done(body string) answer {
	return answer{http.StatusOK, http.Header{"Content-Type": {contentType}}, []byte(body + "\n")}
}

// answer answers one call of Docker.
func (a *Adapter) answer(ctx context.Context, r *http.Request) (answer, error) {
	switch r.URL.Path {
	case "/Plugin.Activate": // Docker sends no body
		// Not the plugin's own answer: Docker activates a plugin when it starts, and
		// gives up the containers of a plugin that does not answer then.
		return done(`{"Implements":["NetworkDriver"]}`), nil
	case "/NetworkDriver.GetCapabilities": // nor here
		return done(`{"Scope":"local","ConnectivityScope":"global"}`), nil
	}
	body, err := readBody(r.Body)
	if err != nil {
		return answer{}, err
	}
	c := call{method: r.Method, url: *r.URL, header: r.Header, body: body}
	handle := a.handler(c.url.Path)
	if handle == nil {
		return a.forward(ctx, c)
	}
	if err := c.decode(); err != nil {
		return answer{}, err
	}
	return handle(ctx, c)
}

// handler returns the function for a call whose body the adapter must
// understand, or nil.
func (a *Adapter) handler(path string) func(context.Context, call) (answer, error) {
	switch strings.TrimPrefix(path, "/NetworkDriver.") {
	case "CreateNetwork":
		return a.createNetwork
	case "DeleteNetwork":
		return a.deleteNetwork
	case "CreateEndpoint":
		return a.createEndpoint
	case "DeleteEndpoint":
		return a.deleteEndpoint
	case "Join":
		return a.join
	case "Leave":
		return a.leave
	case "EndpointOperInfo", "ProgramExternalConnectivity", "RevokeExternalConnectivity":
		return a.forwardTranslated
	case "AllocateNetwork", "FreeNetwork", "DiscoverNew", "DiscoverDelete":
		return a.forward
	}
	return nil
}

// purpose completes "cannot …" for a call.
func purpose(path string) string {
	switch strings.TrimPrefix(path, "/NetworkDriver.") {
	case "CreateNetwork":
		return "create the network"
	case "DeleteNetwork":
		return "delete the network"
	case "CreateEndpoint", "Join":
		return "connect the container to its network"
	case "DeleteEndpoint", "Leave":
		return "disconnect the container from its network"
	}
	return "pass " + text.Line(strings.TrimPrefix(path, "/")) + " to the network plugin"
}

func readBody(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the rest of Docker's request did not arrive: %s; run the docker command again", text.Line(err.Error()))
	case len(body) > maxBody:
		return nil, fmt.Errorf("Docker's request is larger than %d bytes; remove labels or options of the container", maxBody) //nolint:staticcheck // a proper name
	}
	return body, nil
}

// errEmpty is returned for a call without a body. Docker repeats a call whose
// connection failed, but without the body, which it has already read.
var errEmpty = errors.New("Docker's request is empty, because the connection failed during the first attempt; run the docker command again") //nolint:staticcheck // a proper name

package minions

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
)

// The names under which the plugin registers with Docker.
const (
	NetworkDriver = "calico"
	IPAMDriver    = "calico-ipam"
)

// Socket is a socket on which the plugin serves Docker.
type Socket struct {
	Path       string
	Implements string // the interface that Docker uses
}

// NetworkSocket returns the socket of the plugin's network driver. With a local
// network Docker calls the adapter instead.
func NetworkSocket(local bool) Socket {
	path := dockerd.PluginDir + NetworkDriver + ".sock"
	if local {
		path = adapter.PluginSocket
	}
	return Socket{path, "NetworkDriver"}
}

// Sockets returns the plugin's sockets. They remain when the plugin dies: only a
// response proves that it runs.
func Sockets(local bool) []Socket {
	return []Socket{NetworkSocket(local), {dockerd.PluginDir + IPAMDriver + ".sock", "IpamDriver"}}
}

// activateTimeout bounds one query of a socket.
const activateTimeout = 10 * time.Second

// SocketErrors describes what is wrong with each of the plugin's sockets.
func SocketErrors(ctx context.Context, h *host.Host) []string {
	var problems []string
	for _, socket := range Sockets(IsLocal(h)) {
		limited, cancel := context.WithTimeout(ctx, activateTimeout)
		implements, err := dockerd.NewPlugin(h, socket.Path).Activate(limited)
		cancel()
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s: %v", socket.Path, err))
		case !slices.Contains(implements, socket.Implements):
			problems = append(problems, fmt.Sprintf("%s: implements %s, not %s", socket.Path, strings.Join(implements, " "), socket.Implements))
		}
	}
	return problems
}

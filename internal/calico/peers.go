package calico

import (
	"context"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

// Peer is one of BIRD's BGP sessions.
type Peer struct {
	Address     string
	Established bool
	State       string
}

// Peers lists BIRD's BGP sessions. Calico names them after the peer's address:
// Mesh_10_0_0_2, Node_…, Global_…. If BIRD's socket is not on the host, birdcl in the
// container lists them.
func Peers(ctx context.Context, h *host.Host, d *dockerd.Client) ([]Peer, error) {
	limited, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if out, err := queryBIRD(limited, h, "show protocols"); err == nil {
		return parsePeers(out), nil
	}
	status, out, err := d.Exec(ctx, execTimeout, NodeContainer, []string{"birdcl", "-s", birdSocket, "show", "protocols"})
	if err != nil {
		return nil, err
	}
	if status != 0 {
		return nil, fmt.Errorf("birdcl: %s", lastLine(out))
	}
	return parsePeers(string(out)), nil
}

// parsePeers parses the output of `birdcl show protocols`, whose columns are
// name, proto, table, state, since and info.
func parsePeers(out string) []Peer {
	var list []Peer
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[1] != "BGP" {
			continue
		}
		kind, address, ok := strings.Cut(fields[0], "_")
		if !ok || (kind != "Mesh" && kind != "Node" && kind != "Global") {
			continue
		}
		state := strings.Join(fields[5:], " ")
		list = append(list, Peer{
			Address:     text.Line(strings.ReplaceAll(address, "_", ".")),
			Established: strings.HasPrefix(state, "Established"),
			State:       text.Line(state),
		})
	}
	return list
}

package stages

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/text"
)

// peerTimeout bounds the wait for BGP peers. One stale Node delays every join
// by this time; a warning then names its peer.
const peerTimeout = 60 * time.Second

// peer is one of BIRD's BGP sessions.
type peer struct {
	address     string
	established bool
	state       string
}

// peers lists BIRD's BGP sessions as birdcl prints them. Calico names them after
// the peer's address: Mesh_10_0_0_2, Node_…, Global_….
func (s node) peers(ctx context.Context) ([]peer, error) {
	status, out, err := s.docker().Exec(ctx, execTimeout, nodeContainer,
		[]string{"birdcl", "-s", "/var/run/calico/bird.ctl", "show", "protocols"})
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
func parsePeers(out string) []peer {
	var list []peer
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
		list = append(list, peer{
			address:     text.Line(strings.ReplaceAll(address, "_", ".")),
			established: strings.HasPrefix(state, "Established"),
			state:       text.Line(state),
		})
	}
	return list
}

// waitForPeers waits until all BGP sessions are Established, but not longer than
// peerTimeout.
func (s node) waitForPeers(ctx context.Context, report engine.Progress) {
	_ = s.poll(ctx, peerTimeout, func(ctx context.Context) error {
		list, err := s.peers(ctx)
		if err != nil {
			return err
		}
		up := 0
		for _, p := range list {
			if p.established {
				up++
			}
		}
		report(fmt.Sprintf("waiting for BGP peers, %d of %d established", up, len(list)), 0, 0)
		if up < len(list) {
			return fmt.Errorf("%d of %d peers established", up, len(list))
		}
		return nil
	})
}

// warnAboutPeers adds a warning for each peer that is not Established. It names
// the peer's Node if etcd has it: a machine that no longer exists may have left
// its Node behind.
func (s node) warnAboutPeers(ctx context.Context, f *engine.CheckResult) {
	list, err := s.peers(ctx)
	if err != nil {
		f.Warn("cannot list the BGP peers: %v", err)
		return
	}
	var names map[string]string
	for _, p := range list {
		if p.established {
			continue
		}
		if names == nil {
			names = s.nodeNames(ctx)
		}
		name := names[p.address]
		if name == "" {
			f.Warn("BGP peer %s is not established (%s)", p.address, p.state)
			continue
		}
		f.Warn("BGP peer %s (node %s) is not established (%s); if that machine no longer exists, run calicoctl delete node %s",
			p.address, name, p.state, name)
	}
}

// nodeNames maps addresses to names of Nodes. It is empty if etcd is
// unreachable.
func (s node) nodeNames(ctx context.Context) map[string]string {
	names := map[string]string{}
	_ = s.withEtcd(ctx, func(ctx context.Context, c *cluster.Client) error {
		nodes, err := c.Nodes(ctx)
		for _, n := range nodes {
			names[n.Address.Addr().String()] = n.Name
		}
		return err
	})
	return names
}

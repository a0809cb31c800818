package stages

import (
	"context"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/engine"
)

// peerTimeout bounds the wait for BGP peers. One stale Node delays every join
// by this time; a warning then names its peer.
const peerTimeout = 60 * time.Second

// waitForPeers waits until all BGP sessions are Established, but not longer than
// peerTimeout.
func (s node) waitForPeers(ctx context.Context, report engine.Progress) {
	_ = s.poll(ctx, peerTimeout, func(ctx context.Context) error {
		list, err := calico.Peers(ctx, s.Host, s.docker())
		if err != nil {
			return err
		}
		up := 0
		for _, p := range list {
			if p.Established {
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

// whilePeersAreMissing is the effect of a missing peer: BIRD's graceful restart waits
// for all of them.
const whilePeersAreMissing = "; while a peer is missing, BIRD uses no route to other hosts for up to four minutes after calico-node's start"

// warnAboutPeers adds a warning for each peer that is not Established; the first one
// names the effect. A warning names the peer's Node if etcd has it: a machine that no
// longer exists may have left its Node behind.
func (s node) warnAboutPeers(ctx context.Context, f *engine.CheckResult) {
	list, err := calico.Peers(ctx, s.Host, s.docker())
	if err != nil {
		f.Warn("cannot list the BGP peers: %v", err)
		return
	}
	var names map[string]string
	effect := whilePeersAreMissing
	for _, p := range list {
		if p.Established {
			continue
		}
		if names == nil {
			names = s.nodeNames(ctx)
		}
		name := names[p.Address]
		if name == "" {
			f.Warn("BGP peer %s is not established (%s)%s", p.Address, p.State, effect)
		} else {
			f.Warn("BGP peer %s (node %s) is not established (%s); if that machine no longer exists, run calicoctl delete node %s%s",
				p.Address, name, p.State, name, effect)
		}
		effect = ""
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

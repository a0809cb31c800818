package stages

import (
	"context"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/host"
)

// networkAsks is how often Docker is asked for a network before it counts as
// not there. On a busy machine Docker 20.10.24 was seen to answer, without a word,
// with a list that lacked the networks of its cluster store; that it had waited
// in vain for etcd is a guess, from etcd being slow at the time and from the 3 s
// that such an answer took; so there is no pause between two. That three are
// enough was not measured.
const networkAsks = 3

// network finds the Docker network over the pool; nil: it is not there. While
// etcd is out of reach nobody can tell.
func (e *Env) poolNetwork(ctx context.Context) (*host.DockerNetwork, error) {
	for range networkAsks {
		list, err := e.Host.Docker().Networks(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			if n.Name == e.Config.Pool.NetworkName() {
				return &n, nil
			}
		}
	}
	return nil, e.withEtcd(ctx, func(context.Context, *cluster.Client) error { return nil })
}

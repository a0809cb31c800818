package stages

import (
	"context"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/host"
)

// networkAsks is how often Docker is asked for a network before it counts as
// not there. Docker leaves the networks of its cluster store out of its list,
// without a word, when etcd does not answer it in time (3 s, seen on a busy
// machine with 20.10.24); each such answer takes that time, so there is no pause
// between two.
const networkAsks = 3

// network finds the Docker network over the pool; nil: it is not there. While
// etcd is out of reach nobody can tell.
func (e *Env) network(ctx context.Context) (*host.DockerNetwork, error) {
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

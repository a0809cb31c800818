package stages

import (
	"context"

	"github.com/projecteru2/firstboot/internal/cluster"
	"github.com/projecteru2/firstboot/internal/host"
)

// networkQueries is the number of times that Docker's list must lack the network
// before the network counts as missing. On a busy machine Docker 20.10.24 has
// returned, without an error, a list without the networks of its cluster store.
// Such an answer took 3 s while etcd was slow, so Docker probably gave up on
// etcd, and a pause between the queries is not needed. Whether three are enough
// was not measured.
const networkQueries = 3

// poolNetwork returns the Docker network over the pool, nil if it does not
// exist. It returns an *engine.Wait if etcd cannot be reached, because Docker's
// list is then incomplete.
func (e *Env) poolNetwork(ctx context.Context) (*host.DockerNetwork, error) {
	for range networkQueries {
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

package stages

import (
	"context"
	"slices"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/minions"
)

// dockerStore finds what prevents Docker from using the cluster-store of a global
// network.
func (s preflight) dockerStore(ctx context.Context, d dockerState) ([]finding, error) {
	refuse := func(object, actual, expected, fix string) ([]finding, error) {
		return newFinding("docker-cluster-store", object, actual, expected, fix), nil
	}
	if !d.mode.global() {
		return nil, nil
	}
	own := func(n dockerd.Network) bool {
		return n.Name == s.Config.Pool.NetworkName() && n.Scope == dockerd.ScopeLocal && n.Driver == minions.NetworkDriver
	}
	if slices.ContainsFunc(d.networks, own) {
		f := ownNetworkFinding(s.Config.Pool.NetworkName())
		return newFinding("own-network", f.Object, f.Actual, f.Expected, f.Fix), nil
	}
	if dockerd.ClusterStore(s.Config) == "" {
		if d.active && !d.unresponsive && d.info.ClusterStore == "" {
			return refuse("Docker", "no cluster-store, and docker.clusterStore is off", "a cluster-store, because the network is global",
				"set cluster-store in "+dockerd.ConfigPath+" yourself, or docker.clusterStore: auto")
		}
		return nil, nil
	}
	if d.info.Swarm.LocalNodeState == "active" {
		return refuse("Docker", "member of a swarm", "no swarm, because a swarm excludes a cluster-store", "docker swarm leave; or set docker.network: local")
	}
	flags := dockerd.ReadFlags(ctx, s.Host)
	if flag := flags.Store(); flag != "" {
		return refuse("dockerd", "started with "+flag, "only the key in "+dockerd.ConfigPath+", because dockerd refuses a setting that is given twice",
			"remove the flag from docker.service's ExecStart or from /etc/default/docker")
	}
	if path := flags.ConfigFile(); path != "" && path != dockerd.ConfigPath {
		return refuse("dockerd", "started with --config-file "+path, dockerd.ConfigPath+", to which firstboot adds the cluster-store",
			"move the file to "+dockerd.ConfigPath+" and remove the flag, or set cluster-store there yourself and docker.clusterStore: off")
	}
	have, err := s.Host.ReadFile(dockerd.ConfigPath)
	if err != nil {
		return nil, nil //nolint:nilerr // the config stage reports what prevents a merge
	}
	if _, err := dockerd.Merge(have, nil); err != nil {
		return refuse(dockerd.ConfigPath, err.Error(), "a JSON object", engine.Hint(err))
	}
	if key := dockerd.ReadSettings(s.Host).OtherStoreOption(); key != "" {
		return refuse(dockerd.ConfigPath, "cluster-store-opts sets "+key, "no such option, because firstboot's cluster-store uses neither TLS nor a prefix", storeOptionFix)
	}
	return nil, nil
}

const storeOptionFix = "remove the option; or keep that cluster-store with docker.clusterStore: off"

// userNamespaces finds Docker's user namespaces: a privileged container with the
// host's network, such as calico-node, cannot run in them.
func (s preflight) userNamespaces(ctx context.Context, _ dockerState) ([]finding, error) {
	const fix = "remove the setting and restart Docker"
	const expected = "no user namespaces, which exclude the privileged calico-node"
	if flag := "--userns-remap"; dockerd.ReadFlags(ctx, s.Host).Has(flag) {
		return newFinding("docker-userns", "dockerd", "started with "+flag, expected, fix), nil
	}
	if remap := dockerd.ReadSettings(s.Host).UserNamespaces; remap != "" {
		return newFinding("docker-userns", dockerd.ConfigPath, "userns-remap is "+remap, expected, fix), nil
	}
	return nil, nil
}

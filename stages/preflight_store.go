package stages

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// dockerStore finds what prevents Docker from using the cluster-store.
func (s preflight) dockerStore(ctx context.Context, d dockerState) ([]finding, error) {
	refuse := func(object, actual, expected, fix string) ([]finding, error) {
		return newFinding("docker-cluster-store", object, actual, expected, fix), nil
	}
	if clusterStore(s.Config) == "" {
		if d.active && !d.unresponsive && d.info.ClusterStore == "" {
			return refuse("Docker", "no cluster-store, and docker.clusterStore is off", "a cluster-store, because the network is global",
				"set cluster-store in "+DaemonPath+" yourself, or docker.clusterStore: auto")
		}
		return nil, nil
	}
	if d.info.Swarm.LocalNodeState == "active" {
		return refuse("Docker", "member of a swarm", "no swarm, because a swarm excludes a cluster-store", "docker swarm leave")
	}
	flags := s.daemonFlags(ctx)
	if flag := storeFlag(flags); flag != "" {
		return refuse("dockerd", "started with "+flag, "only the key in "+DaemonPath+", because dockerd refuses a setting that is given twice",
			"remove the flag from docker.service's ExecStart or from /etc/default/docker")
	}
	if path := configFile(flags); path != "" && path != DaemonPath {
		return refuse("dockerd", "started with --config-file "+path, DaemonPath+", to which firstboot adds the cluster-store",
			"move the file to "+DaemonPath+" and remove the flag, or set cluster-store there yourself and docker.clusterStore: off")
	}
	have, err := s.Host.ReadFile(DaemonPath)
	if err != nil {
		return nil, nil //nolint:nilerr // the config stage reports what prevents a merge
	}
	if _, err := MergeDaemon(have, nil); err != nil {
		return refuse(DaemonPath, err.Error(), "a JSON object", engine.Hint(err))
	}
	if key := storeOption(have); key != "" {
		return refuse(DaemonPath, "cluster-store-opts sets "+key, "no such option, because firstboot's cluster-store uses neither TLS nor a prefix", storeOptionFix)
	}
	return nil, nil
}

const storeOptionFix = "remove the option; or keep that cluster-store with docker.clusterStore: off"

// storeOption returns the first key of cluster-store-opts that belongs to another
// store, such as its certificates, or "".
func storeOption(daemon []byte) string {
	var settings struct {
		Options map[string]any `json:"cluster-store-opts"`
	}
	if json.Unmarshal(daemon, &settings) != nil {
		return ""
	}
	for _, key := range slices.Sorted(maps.Keys(settings.Options)) {
		if !strings.HasPrefix(key, "discovery.") { // intervals, which suit every store
			return key
		}
	}
	return ""
}

// daemonFlags returns dockerd's command line, with the defaults file of Debian.
func (s preflight) daemonFlags(ctx context.Context) string {
	var flags string
	if start, err := s.Host.Systemd().Property(ctx, units.Docker, "Service", "ExecStart"); err == nil {
		flags = fmt.Sprint(start)
	}
	if defaults, err := s.Host.ReadFile("/etc/default/docker"); err == nil {
		for line := range strings.Lines(string(defaults)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") {
				flags += " " + line
			}
		}
	}
	return flags
}

// storeFlag returns the flag of dockerd that conflicts with a key which
// firstboot sets in daemon.json, or "".
func storeFlag(flags string) string {
	for _, flag := range []string{"--cluster-store", "--cluster-advertise"} {
		if strings.Contains(flags, flag) {
			return flag
		}
	}
	return ""
}

// configFlag matches dockerd's flag for another configuration file.
var configFlag = regexp.MustCompile(`--config-file[= ]+"?([^\s"\]]+)`)

func configFile(flags string) string {
	if m := configFlag.FindStringSubmatch(flags); m != nil {
		return m[1]
	}
	return ""
}

// userNamespaces finds Docker's user namespaces: a privileged container with the
// host's network, such as calico-node, cannot run in them.
func (s preflight) userNamespaces(ctx context.Context, _ dockerState) ([]finding, error) {
	const fix = "remove the setting and restart Docker"
	if flag := "--userns-remap"; strings.Contains(s.daemonFlags(ctx), flag) {
		return newFinding("docker-userns", "dockerd", "started with "+flag, "no user namespaces, which exclude the privileged calico-node", fix), nil
	}
	var settings struct {
		Remap string `json:"userns-remap"`
	}
	if data, err := s.Host.ReadFile(DaemonPath); err != nil || json.Unmarshal(data, &settings) != nil || settings.Remap == "" {
		return nil, nil //nolint:nilerr // dockerStore reports a damaged file
	}
	return newFinding("docker-userns", DaemonPath, "userns-remap is "+settings.Remap, "no user namespaces, which exclude the privileged calico-node", fix), nil
}

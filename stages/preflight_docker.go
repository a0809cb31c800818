package stages

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// The versions of Docker that firstboot knows.
const (
	newestDocker  = 29
	globalDockers = "Docker 19.03 to 20.10, because Docker 23 and later have no cluster-store, which a global network needs"
	localDockers  = "Docker 19.03 to 29"
	dockerFix     = "install Docker (Debian 12: apt install docker.io; Debian 13: apt install docker.io docker-cli)"
)

// dockerVersion checks that Docker is installed, and in a version that supports
// the network: the API of versions before 19.03 is too old.
func (s preflight) dockerVersion(ctx context.Context, d dockerState) ([]finding, error) {
	program, ok := s.Host.LookPath("dockerd")
	switch {
	case !ok && !d.active:
		return newFinding("docker-missing", "Docker", "no dockerd", localDockers, dockerFix), nil
	case d.load == "not-found":
		return newFinding("docker-missing", units.Docker, "no such unit", "a unit that runs Docker", dockerFix), nil
	case d.load == "masked":
		return newFinding("docker-missing", units.Docker, "masked", "a unit that can be started", "systemctl unmask docker"), nil
	case d.unresponsive:
		return nil, nil
	}
	version := d.info.ServerVersion
	if !d.active {
		out, err := s.Host.Query(ctx, host.Command{Name: program, Args: []string{"--version"}, Timeout: 20 * time.Second})
		if err != nil {
			return newFinding("docker-missing", program, err.Error(), localDockers, dockerFix), nil
		}
		version = string(out.Stdout)
	}
	major, minor, ok := dockerd.Release(version)
	version = orNone(strings.TrimSpace(version))
	supported := localDockers
	if d.mode.global() {
		supported = globalDockers
	}
	switch {
	case !ok || major < 19 || major == 19 && minor < 3:
		return newFinding("docker-version", "Docker", version, supported, "install a newer Docker (Debian 12: apt install docker.io; Debian 13: apt install docker.io docker-cli)"), nil
	case d.mode.global() && major > lastWithStore:
		return newFinding("docker-version", "Docker", version, supported,
			"set docker.network: local or auto, then run firstboot run --force"), nil
	case major > newestDocker:
		return newWarning("docker-version", "Docker", version, localDockers, "newer versions were not tested"), nil
	}
	return nil, nil
}

// runcWithTime is the first release of runc with time namespaces. Docker 29
// passes such a namespace to it (measured: runc 1.1.15 is refused).
const runcWithTime = "1.2"

// dockerRuntime checks that Docker 29 does not use an old runc.
func (s preflight) dockerRuntime(ctx context.Context, d dockerState) ([]finding, error) {
	major, _, ok := dockerd.Release(d.info.ServerVersion)
	if !ok || major < newestDocker || d.info.DefaultRuntime != "runc" {
		return nil, nil
	}
	program, ok := s.Host.LookPath("runc")
	if !ok {
		return nil, nil // Docker may have its own
	}
	out, err := s.Host.Query(ctx, host.Command{Name: program, Args: []string{"--version"}, Timeout: 20 * time.Second})
	if err != nil {
		return nil, nil //nolint:nilerr // Docker reports what is wrong with its runtime
	}
	runcMajor, minor, ok := dockerd.Release(string(out.Stdout))
	if !ok || runcMajor > 1 || runcMajor == 1 && minor >= 2 {
		return nil, nil
	}
	first, _, _ := strings.Cut(string(out.Stdout), "\n")
	return newFinding("docker-runtime", program, first, "runc "+runcWithTime+" or newer, because Docker "+shortVersion(d.info.ServerVersion)+" starts no container with an older one",
		"install a newer runc; or install crun and set \"runtimes\": {\"crun\": {\"path\": \"/usr/bin/crun\"}}, \"default-runtime\": \"crun\" in "+dockerd.ConfigPath), nil
}

// dockerRestart finds containers of others that a restart of Docker would stop.
// Docker uses its first cluster-store after a reload, so that one needs no
// restart.
func (s preflight) dockerRestart(ctx context.Context, d dockerState) ([]finding, error) {
	have := "the cluster-store " + d.info.ClusterStore
	var want string
	switch {
	case !d.active || s.Config.Docker.Restart == config.RestartAllow:
		return nil, nil
	case d.localScope:
		have, want = "the plugin's scope as local", "the scope global"
	case d.info.ClusterStore == "":
		return nil, nil
	case d.mode.global():
		want = dockerd.ClusterStore(s.Config)
		if want == "" || d.info.ClusterStore == want {
			return nil, nil
		}
	case !s.leavesStore(d):
		return nil, nil
	default:
		want = "no cluster-store"
	}
	foreign, err := s.foreignContainers(ctx)
	if err != nil || len(foreign) == 0 {
		return nil, err
	}
	return newFinding("foreign-containers", "Docker", "has "+have+" and runs "+strings.Join(foreign, ", "),
		want+", which needs a restart", "stop these containers, or set docker.restart: allow"), nil
}

// leavesStore reports whether the run takes Docker's cluster-store out of effect,
// because the network becomes local.
func (s preflight) leavesStore(d dockerState) bool {
	return d.mode.local() && dockerd.IsOwnStore(s.Config, d.info.ClusterStore)
}

// containersToRecreate warns of the containers that Docker cannot start after the
// mode has changed, because they know the network of this name by another ID.
func (s preflight) containersToRecreate(ctx context.Context, d dockerState) ([]finding, error) {
	expected := "containers on this host's local network"
	switch {
	case d.unresponsive:
		return nil, nil
	case d.localScope:
		expected = "containers on the global network"
	case !d.mode.local():
		return nil, nil
	}
	names, err := s.onOtherNetwork(ctx, d)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return newWarning("containers-to-recreate", "containers", strings.Join(names, ", ")+" on another network named "+s.Config.Pool.NetworkName(),
		expected, "after the run, remove and create them again; Docker cannot start them"), nil
}

// onOtherNetwork returns the names of the containers, running or not, whose network
// has the name of this host's and another scope. Without Docker it reads its files.
func (s preflight) onOtherNetwork(ctx context.Context, d dockerState) ([]string, error) {
	name := s.Config.Pool.NetworkName()
	other := func(a dockerd.Attachment) bool {
		isOwn := func(n dockerd.Network) bool {
			return n.ID == a.NetworkID && (n.Scope == dockerd.ScopeLocal) == d.mode.local()
		}
		return a.NetworkID != "" && !slices.ContainsFunc(d.networks, isOwn)
	}
	var names []string
	if !d.active {
		if !dockerd.HasStoreKeys(s.Host) {
			return nil, nil // Docker's networks are not known
		}
		for _, c := range dockerd.StoredContainers(s.Host) {
			if other(c.Networks[name]) {
				names = append(names, c.Name)
			}
		}
		return names, nil
	}
	list, err := s.docker().Containers(ctx)
	if err != nil {
		return nil, &engine.Wait{For: "Docker to respond", Err: err}
	}
	for _, c := range list {
		if c.Labels[probeLabel] == "" && other(c.NetworkSettings.Networks[name]) {
			names = append(names, c.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// artifacts checks that every artifact is installed or has a source.
func (s preflight) artifacts(ctx context.Context, d dockerState) ([]finding, error) {
	var found []finding
	missing := func(name string) {
		found = append(found, newFinding("artifact-missing", name, "not installed from a verified file, not in a bundle, and has no url", "a source",
			"set "+configSection(name)+".url, then run: firstboot bundle --config FILE --lock --write (it sets sha256); or write a bundle with firstboot bundle --dir DIR and copy it to "+BundleDirs()[0])...)
	}
	if !s.isPresent(ctx, calicoctlName) && !s.hasSource(calicoctlName) {
		missing(calicoctlName)
	}
	if _, ok := s.Host.LookPath("rpm"); !ok {
		return append(found, newFinding("rpm-missing", "rpm", "not installed", "installed, because eru-minions is an RPM package", "install the package rpm")...), nil
	}
	if !s.isPresent(ctx, minionsName) && !s.hasSource(minionsName) {
		missing(minionsName)
	}
	if s.pin(imageName) != "" && !s.isPresent(ctx, imageName) && !s.hasSource(imageName) {
		missing(imageName)
	}
	return append(found, s.imageByTag(ctx, d)...), nil
}

// imageByTag warns if the node image is not pinned.
func (s preflight) imageByTag(ctx context.Context, d dockerState) []finding {
	image := s.Config.Node.Image
	if strings.Contains(image, "@sha256:") || s.hasSource(imageName) || s.hasImage(ctx, d) {
		return nil
	}
	return newWarning("image-by-tag", "node.image "+image, "pulled by its tag", "a pinned image",
		"name it by digest (NAME@sha256:…), or set node.url and node.sha256")
}

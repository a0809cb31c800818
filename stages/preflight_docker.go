package stages

import (
	"context"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// localNetwork refuses what needs a local Docker network, because no stage creates
// one yet. preflight.ignore cannot demote it: the host would not join.
func (s preflight) localNetwork(context.Context, dockerState) ([]finding, error) {
	const name, expected = "local-network", "a global network: this version of firstboot cannot create local ones"
	switch {
	case s.Config.Docker.Network == config.NetworkLocal:
		return newFinding(name, "docker.network", s.Config.Docker.Network, expected, "set docker.network to auto or global"), nil
	case s.Config.Etcd.TLS():
		return newFinding(name, "etcd.endpoints", "https, which needs a local Docker network", expected, "use http endpoints"), nil
	}
	return nil, nil
}

// dockerVersion checks that Docker is installed, and in a version that supports
// networks across hosts: the API of versions before 19.03 is too old, and
// Docker 23 and later have no cluster-store (measured up to 28).
func (s preflight) dockerVersion(ctx context.Context, d dockerState) ([]finding, error) {
	program, ok := s.Host.LookPath("dockerd")
	switch {
	case !ok && !d.active:
		return newFinding("docker-missing", "Docker", "no dockerd", dockerWanted, dockerFix), nil
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
			return newFinding("docker-missing", program, err.Error(), dockerWanted, dockerFix), nil
		}
		version = string(out.Stdout)
	}
	major, minor, ok := dockerd.Release(version)
	if ok && (major == 20 || major == 19 && minor >= 3) {
		return nil, nil
	}
	return newFinding("docker-version", "Docker", orNone(strings.TrimSpace(version)), dockerWanted,
		"install Docker 20.10 (Debian 12: docker.io); Docker 23 and later have no cluster-store, which the hosts need to share a network"), nil
}

const (
	dockerWanted = "Docker 19.03 to 20.10"
	dockerFix    = "install Docker 20.10 (Debian 12: apt install docker.io)"
)

// dockerRestart finds containers of others that a restart of Docker would stop.
// Docker uses its first cluster-store after a reload, so that one needs no
// restart.
func (s preflight) dockerRestart(ctx context.Context, d dockerState) ([]finding, error) {
	want := dockerd.ClusterStore(s.Config)
	if want == "" || !d.active || d.info.ClusterStore == "" || d.info.ClusterStore == want ||
		s.Config.Docker.Restart == config.RestartAllow {
		return nil, nil
	}
	foreign, err := s.foreignContainers(ctx)
	if err != nil || len(foreign) == 0 {
		return nil, err
	}
	return newFinding("foreign-containers", "Docker", "has the cluster-store "+d.info.ClusterStore+" and runs "+strings.Join(foreign, ", "),
		want+", which needs a restart", "stop these containers, or set docker.restart: allow"), nil
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

package stages

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// dockerVersion looks whether there is a Docker, and one whose plugin networks
// work on several hosts: before 19.03 its API is too old, since 23 it has no
// cluster-store (measured up to 28).
func (s preflight) dockerVersion(ctx context.Context, view dockerView) ([]concern, error) {
	program, ok := s.Host.LookPath("dockerd")
	switch {
	case !ok && !view.active:
		return concernOf("docker-missing", "Docker", "no dockerd", dockerWanted, dockerFix), nil
	case view.load == "not-found":
		return concernOf("docker-missing", units.Docker, "no such unit", "Docker run by systemd", dockerFix), nil
	case view.load == "masked":
		return concernOf("docker-missing", units.Docker, "masked", "a unit that can be started", "systemctl unmask docker"), nil
	case view.silent:
		return nil, nil
	}
	version := view.info.ServerVersion
	if !view.active {
		out, err := s.Host.Query(ctx, host.Command{Name: program, Args: []string{"--version"}, Timeout: 20 * time.Second})
		if err != nil {
			return concernOf("docker-missing", program, err.Error(), dockerWanted, dockerFix), nil
		}
		version = string(out.Stdout)
	}
	major, minor, ok := dockerRelease(version)
	if ok && (major == 20 || major == 19 && minor >= 3) {
		return nil, nil
	}
	return concernOf("docker-version", "Docker", orNone(strings.TrimSpace(version)), dockerWanted,
		"install Docker 20.10 (Debian 12: docker.io); 23 and later have no cluster-store, which the hosts share their network by"), nil
}

const (
	dockerWanted = "Docker 19.03 to 20.10"
	dockerFix    = "install Docker 20.10 (Debian 12: apt install docker.io)"
)

var dockerNumber = regexp.MustCompile(`(\d+)\.(\d+)\.\d+`)

// dockerRelease reads 20 and 10 from 20.10.24+dfsg1, or from the whole line of
// dockerd --version.
func dockerRelease(version string) (major, minor int, ok bool) {
	m := dockerNumber.FindStringSubmatch(version)
	if m == nil {
		return 0, 0, false
	}
	major, errMajor := strconv.Atoi(m[1])
	minor, errMinor := strconv.Atoi(m[2])
	return major, minor, errMajor == nil && errMinor == nil
}

// dockerStore finds what keeps a cluster-store from coming into force.
func (s preflight) dockerStore(ctx context.Context, view dockerView) ([]concern, error) {
	refuse := func(what, seen, want, fix string) ([]concern, error) {
		return concernOf("docker-cluster-store", what, seen, want, fix), nil
	}
	want := clusterStore(s.Config)
	if want == "" {
		if view.active && !view.silent && view.info.ClusterStore == "" {
			return refuse("Docker", "no cluster-store, and docker.clusterStore is off", "one: the network is global",
				"set cluster-store in "+DaemonPath+" yourself, or docker.clusterStore: auto")
		}
		return nil, nil
	}
	if view.info.Swarm.LocalNodeState == "active" {
		return refuse("Docker", "part of a swarm", "no swarm: it excludes a cluster-store", "docker swarm leave")
	}
	if flag := s.storeFlag(ctx); flag != "" {
		return refuse("dockerd", "started with "+flag, "the directive in "+DaemonPath+" only: dockerd refuses one that it gets twice",
			"take the flag out of docker.service's ExecStart or /etc/default/docker")
	}
	if have, err := s.Host.ReadFile(DaemonPath); err == nil {
		if _, err := MergeDaemon(have, nil); err != nil {
			return refuse(DaemonPath, err.Error(), "a JSON object", "repair the file; Docker itself would not start with it")
		}
	}
	return nil, nil
}

// storeFlag names a flag of dockerd that daemon.json will hold as well.
func (s preflight) storeFlag(ctx context.Context) string {
	var words string
	if start, err := s.Host.Systemd().Property(ctx, units.Docker, "Service", "ExecStart"); err == nil {
		words = fmt.Sprint(start)
	}
	if defaults, err := s.Host.ReadFile("/etc/default/docker"); err == nil {
		for line := range strings.Lines(string(defaults)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") {
				words += " " + line
			}
		}
	}
	for _, flag := range []string{"--cluster-store", "--cluster-advertise"} {
		if strings.Contains(words, flag) {
			return flag
		}
	}
	return ""
}

// foreignStop finds containers that a restart of Docker would stop. A first
// store needs none: a reload brings it into force.
func (s preflight) foreignStop(ctx context.Context, view dockerView) ([]concern, error) {
	want := clusterStore(s.Config)
	if want == "" || !view.active || view.info.ClusterStore == "" || view.info.ClusterStore == want ||
		s.Config.Docker.Restart == config.RestartAllow {
		return nil, nil
	}
	foreign, err := s.foreignContainers(ctx)
	if err != nil || len(foreign) == 0 {
		return nil, err
	}
	return concernOf("foreign-containers", "Docker", "has the cluster-store "+view.info.ClusterStore+" and runs "+strings.Join(foreign, ", "),
		want+", which needs a restart", "stop these containers, or set docker.restart: allow"), nil
}

// artifacts looks whether what is not on the machine can be had.
func (s preflight) artifacts(ctx context.Context, view dockerView) ([]concern, error) {
	var found []concern
	missing := func(name string) {
		found = append(found, concernOf("artifact-missing", name, "not on this machine, no url, not in a bundle", "somewhere to get it from",
			"set "+configSection(name)+".url and its sha256, or put it into "+BundleDirs()[0])...)
	}
	if !s.onMachine(ctx, calicoctlName) && !s.available(calicoctlName) {
		missing(calicoctlName)
	}
	if _, ok := s.Host.LookPath("rpm"); !ok {
		return append(found, concernOf("rpm-missing", "rpm", "no such program", "rpm, to install eru-minions", "install the package rpm")...), nil
	}
	if !s.onMachine(ctx, minionsName) && !s.available(minionsName) {
		missing(minionsName)
	}
	return append(found, s.pulledByTag(ctx, view)...), nil
}

// pulledByTag warns of an image that nothing pins.
func (s preflight) pulledByTag(ctx context.Context, view dockerView) []concern {
	image := s.Config.Node.Image
	if strings.Contains(image, "@sha256:") || s.available(imageName) || s.hasImage(ctx, view) {
		return nil
	}
	return warningOf("image-by-tag", "node.image "+image, "pulled by its tag", "an image that is pinned",
		"name it by digest (NAME@sha256:…), or set node.url and node.sha256")
}

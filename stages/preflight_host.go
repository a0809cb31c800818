package stages

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/engine"
)

// architectures are Go's names of the machines that Calico's releases are
// built for, and rpm's.
func architectures() map[string]string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x"}
}

// rpmArchitecture is this machine as RPM packages name it, "" where unknown.
func rpmArchitecture() string { return architectures()[runtime.GOARCH] }

// architecture compares a package that is at hand with the machine. One that
// is still to be fetched is compared before it is installed.
func (s preflight) architecture(context.Context, dockerView) ([]concern, error) {
	want := rpmArchitecture()
	if want == "" {
		return concernOf("architecture", "machine", runtime.GOARCH, "one that Calico is built for", "use an amd64 or arm64 machine"), nil
	}
	path, ok := minions(s).packageAtHand()
	if !ok {
		return nil, nil
	}
	p, err := artifact.ReadPackage(path)
	if err != nil || p.Arch == "noarch" || p.Arch == want {
		return nil, nil //nolint:nilerr // the minions stage says what is wrong with a package
	}
	return concernOf("architecture", "package "+p.String(), "for "+p.Arch, "for "+want, "put the package of this architecture into minions.url or the bundle"), nil
}

// hostLabel is one part of a host name that Calico takes as a node's name.
var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// hostName wants a name that plugin and calicoctl take for the same: the
// plugin uses it as it is, calicoctl makes it lower case.
func (s preflight) hostName(context.Context, dockerView) ([]concern, error) {
	name := s.Host.Hostname()
	refuse := func(want, fix string) []concern { return concernOf("host-name", "host name", orNone(name), want, fix) }
	if want := s.Config.Host.Name; want != "" && want != name {
		return refuse("host.name "+want, "hostnamectl set-hostname "+want+", or take host.name out of the configuration"), nil
	}
	if name == "" || name == "localhost" || strings.HasPrefix(name, "localhost.") || name == "(none)" {
		return refuse("a name of its own", "hostnamectl set-hostname NAME"), nil
	}
	if name != strings.ToLower(name) {
		return refuse("lower case: Docker's plugin uses it as it is, calicoctl makes it lower case", "hostnamectl set-hostname "+strings.ToLower(name)), nil
	}
	for part := range strings.SplitSeq(name, ".") {
		if !hostLabel.MatchString(part) {
			return refuse("letters, digits and hyphens (RFC 1123)", "hostnamectl set-hostname NAME"), nil
		}
	}
	return nil, nil
}

// clock waits while the clock shows a time before this binary was built:
// certificates, leases and the marker's times would be nonsense.
func (s preflight) clock(context.Context, dockerView) ([]concern, error) {
	now := time.Now()
	if s.Built.IsZero() || !now.Before(s.Built) {
		return nil, nil
	}
	seen := "the clock shows " + now.UTC().Format(time.RFC3339)
	want := "after " + s.Built.UTC().Format(time.RFC3339) + ", when this firstboot was built"
	if s.ignores("clock") {
		return warningOf("clock", "clock", seen, want, "set the clock"), nil
	}
	return nil, &engine.Wait{For: "the clock to be set (" + want + ")", Err: errors.New(seen)}
}

func (s preflight) ignores(name string) bool { return slices.Contains(s.Config.Preflight.Ignore, name) }

// What a host needs free, in bytes: firstboot's state, cache and calicoctl
// (43–70 MB); Docker's store for an image of 85–230 MB and its unpacked
// layers.
const (
	freeForFiles = 128 << 20
	freeForImage = 700 << 20
)

// diskSpace looks at the file systems that are still to be written.
func (s preflight) diskSpace(ctx context.Context, view dockerView) ([]concern, error) {
	var found []concern
	want := func(path string, need uint64) {
		free, err := s.Host.FreeSpace(path)
		if err == nil && free < need {
			found = append(found, concernOf("disk-space", path, fmt.Sprintf("%d MiB free", free>>20),
				fmt.Sprintf("at least %d MiB", need>>20), "make room, or give the machine a larger disk")...)
		}
	}
	if !s.onMachine(ctx, calicoctlName) {
		want("/usr/bin", freeForFiles)
		want("/var/lib/firstboot", freeForFiles)
	}
	if !s.hasImage(ctx, view) {
		want(dockerRoot(view), freeForImage)
	}
	return found, nil
}

// dockerRoot is where Docker keeps its images.
func dockerRoot(view dockerView) string {
	if view.info.DockerRootDir != "" {
		return view.info.DockerRootDir
	}
	return "/var/lib/docker"
}

// hasImage tells whether Docker has the node image, also while it does not
// run. One that does not answer is taken to have it.
func (s preflight) hasImage(ctx context.Context, view dockerView) bool {
	if view.silent {
		return true
	}
	if view.active {
		var f engine.CheckResult
		return docker(s).checkImage(ctx, &f) == nil && f.OK()
	}
	store := dockerRoot(view) + "/image"
	drivers, _ := s.Host.ReadDir(store) // none: Docker never ran
	for _, driver := range drivers {
		names, err := s.Host.ReadFile(store + "/" + driver + "/repositories.json")
		if err == nil && strings.Contains(string(names), `"`+s.Config.Node.Image+`"`) {
			return true
		}
	}
	return false
}
